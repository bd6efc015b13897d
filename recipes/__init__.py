"""The recipes, a YAML file each in the folder of their vertical; installed as `vertical_sdk.recipes`, never imported."""
