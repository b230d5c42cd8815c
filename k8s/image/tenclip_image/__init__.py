"""What builds the images: locks with hashes, the installation inside of the build, SBOMs, and the engines' commands.

`locks`, `install`, `trim` and `sbom` also run inside of the build, on the base image's own Python, and so import the
standard library only (`sbom` runs beside cyclonedx-bom).
"""
