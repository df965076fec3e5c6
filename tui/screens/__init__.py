"""The screens over the main one: help, confirm, submit."""
