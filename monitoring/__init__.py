"""What watches decisions and may be switched off without changing one."""
