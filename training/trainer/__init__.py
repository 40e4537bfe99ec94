"""The trainer process, from the rows it is fed to the checkpoint it leaves."""
