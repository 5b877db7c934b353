# For type checkers it is the standard library's.
from dataclasses import Field as Field
from dataclasses import dataclass as dataclass
from dataclasses import field as field
from dataclasses import fields as fields
from dataclasses import replace as replace
