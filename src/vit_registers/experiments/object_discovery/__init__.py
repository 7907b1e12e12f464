"""Object discovery."""
