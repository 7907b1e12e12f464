"""From a name, a file or a training to one backbone: timm module, token layout, preprocessing."""
