"""Models of OpenCLIP: image towers as modules of timm, and text towers for the names of classes."""
