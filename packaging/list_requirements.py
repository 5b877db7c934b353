"""Print the Python requirements of this project, run-time and development, one a line.

The environment holds the dependencies only; the package itself runs from the tree, so that an edit is live.
Its name is no module of the library `packaging`: older setuptools would take it for that when it builds in the tree.
"""

import sys
import tomllib

with open(sys.argv[1], "rb") as file:
    project = tomllib.load(file)["project"]
print("\n".join(project["dependencies"] + project["optional-dependencies"]["dev"]))
