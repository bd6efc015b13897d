"""Packages only; everything else is in pyproject.toml.

`recipes/` and `domains/` stand beside the library and install inside it, for `pip install .` and `pip install -e .` alike.
"""

from setuptools import find_namespace_packages, setup

inside = [f"vertical_sdk.{name}" for name in find_namespace_packages(include=["recipes", "recipes.*", "domains", "domains.*"])]

setup(
    packages=find_namespace_packages(include=["vertical_sdk", "vertical_sdk.*"]) + inside,
    package_dir={"vertical_sdk.recipes": "recipes", "vertical_sdk.domains": "domains"},
)
