"""Official weights to safetensors; nothing in a file is executed."""
