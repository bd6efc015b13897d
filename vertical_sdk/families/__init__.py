"""One file for each base family: how it reads rows, carries LoRA and gives outputs."""
