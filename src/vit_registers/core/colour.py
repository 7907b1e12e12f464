"""Constants of colour."""

LUMA = (0.299, 0.587, 0.114)  # weights of red, green and blue in the luma of ITU-R BT.601
