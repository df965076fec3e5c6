"""Prompts in a storm: is every answer the one that an undisturbed process gives, whole and once?"""
