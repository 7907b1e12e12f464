"""One model on a folder of images, without params and labels: has it outlier tokens, and would registers help?"""
