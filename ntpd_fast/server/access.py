"""Who may ask: `allow` and `deny` rules, and the table the workers read.

Rules live in one radix tree of 4 bits a level for each family, as chrony keeps them: a prefix whose
length is not a multiple of 4 is written to the nodes of the next level it covers. A look-up follows the
address and takes the deepest state on its way, so the longer prefix wins in whatever order the lines came,
prefixes that round up to the same level overwrite each other in order, and `all` removes the more specific
rules below. Nothing said means denied.

`compile` turns both trees into the flat, immutable form of `_access.pxd`. Memory is bounded twice: by the
number of nodes a builder takes and by the bytes a compiled table may have; the error says what did not fit.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from ntpd_fast._record import dataclass
from ntpd_fast.config.model import AccessRule, IPAddress

IPNetwork = IPv4Network | IPv6Network

# A node with children takes about 300 bytes, one without 50: some 60 MiB at the bound, which is
# 40,000 or more scattered IPv4 networks.
NODES_MAX = 262_144
TABLE_SIZE_MAX = 4 << 20

_MAGIC = 0x4343414E
_VERSION = 1
_HEADER = struct.Struct("=9I28x")
_SKIP = struct.Struct("=QQIIII")
_ROW = struct.Struct("=16I")
_LEAF, _NIBBLE, _BYTE, _SKIP_KIND = range(4)
_SKIP_BITS_MAX = 60
# From this many inner children on, one node of 256 references (16 rows) replaces 1 + n of 16 (one row each).
_BYTE_NODE_CHILDREN = 6


class AccessTableFull(Exception):
    """A rule or a table beyond the bound; nothing was changed."""


class _Node:
    __slots__ = ("children", "state")

    def __init__(self) -> None:
        self.state: bool | None = None
        self.children: dict[int, _Node] | None = None


def _nibbles(packed: bytes) -> list[int]:
    return [nibble for byte in packed for nibble in (byte >> 4, byte & 15)]


class AccessTable:
    """The rules of one service (NTP and NTS-KE share one, commands have another)."""

    def __init__(self, nodes_max: int = NODES_MAX) -> None:
        self._roots: dict[int, _Node] = {4: _Node(), 6: _Node()}
        self._nodes_max = nodes_max
        self._nodes = 2

    @classmethod
    def from_rules(cls, rules: Iterable[AccessRule], nodes_max: int = NODES_MAX) -> AccessTable:
        """The table of a configuration. Raises AccessTableFull naming the line of the rule that does not fit."""
        table = cls(nodes_max)
        for rule in rules:
            try:
                table.set_rule(rule)
            except AccessTableFull as error:
                raise AccessTableFull(f"{error} {rule.where}") from None
        return table

    def set_rule(self, rule: AccessRule) -> None:
        """Apply one rule of the configuration or of a command. Raises ValueError for an impossible prefix."""
        network: IPNetwork | None
        if rule.address is None:
            network = None
        elif rule.address.version == 4:
            network = IPv4Network((int(rule.address), rule.prefix_len), strict=False)
        else:
            network = IPv6Network((int(rule.address), rule.prefix_len), strict=False)
        self.set(network, rule.allow, all_below=rule.all)

    def set(self, network: IPNetwork | IPAddress | None, allow: bool, *, all_below: bool = False) -> None:
        """Apply one `allow` or `deny` line; `all_below` is its `all`. None is every address of both families.

        Raises AccessTableFull, with nothing changed, when the rule needs more nodes than the bound leaves.
        """
        if network is None:
            for root in self._roots.values():
                self._assign(root, allow, all_below)
            return
        if isinstance(network, IPv4Address):
            network = IPv4Network(network)
        elif isinstance(network, IPv6Address):
            network = IPv6Network(network)
        path = _nibbles(network.network_address.packed)
        levels, bits = divmod(network.prefixlen, 4)
        siblings = range(path[levels], path[levels] + (1 << (4 - bits))) if bits else range(0)
        self._check_room(network, path[:levels], siblings)
        node = self._roots[network.version]
        for nibble in path[:levels]:
            node = self._child(node, nibble)
        if not bits:
            self._assign(node, allow, all_below)
        for nibble in siblings:
            self._assign(self._child(node, nibble), allow, all_below)

    def is_allowed(self, address: IPAddress) -> bool:
        """Whether the address may ask."""
        node = self._roots[address.version]
        allowed = bool(node.state)
        for nibble in _nibbles(address.packed):
            child = node.children.get(nibble) if node.children else None
            if child is None:
                break
            node = child
            if node.state is not None:
                allowed = node.state
        return allowed

    def any_allowed(self, family: int) -> bool:
        """Whether some address of the family (4 or 6) may ask: its socket is open only then."""
        return self._any_allowed(self._roots[family], False)

    def compile(self, size_max: int = TABLE_SIZE_MAX) -> bytes:
        """The table for the workers. Raises AccessTableFull when it would be larger than `size_max` bytes."""
        flat = _Compiler()
        root4 = flat.root(_resolve(self._roots[4], False))
        root6 = flat.root(_resolve(self._roots[6], False))
        flags = self.any_allowed(4) | self.any_allowed(6) << 1
        table = flat.emit(root4, root6, flags)
        if len(table) > size_max:
            raise AccessTableFull(f"the access table needs {len(table)} bytes, {size_max} are available")
        return table

    def _any_allowed(self, node: _Node, inherited: bool) -> bool:
        state = inherited if node.state is None else node.state
        if not node.children:
            return state
        if state and len(node.children) < 16:
            return True
        return any(self._any_allowed(child, state) for child in node.children.values())

    def _check_room(self, network: IPNetwork, path: list[int], siblings: range) -> None:
        node: _Node | None = self._roots[network.version]
        wanted = 0
        for nibble in path:
            node = node.children.get(nibble) if node and node.children else None
            wanted += node is None
        present = node.children if node and node.children else {}
        wanted += sum(nibble not in present for nibble in siblings)
        if self._nodes + wanted > self._nodes_max:
            raise AccessTableFull(f"no room for the access rule {network}: {self._nodes} nodes are in use")

    def _child(self, node: _Node, nibble: int) -> _Node:
        if node.children is None:
            node.children = {}
        child = node.children.get(nibble)
        if child is None:
            child = node.children[nibble] = _Node()
            self._nodes += 1
        return child

    def _assign(self, node: _Node, allow: bool, all_below: bool) -> None:
        node.state = allow
        if all_below:
            self._nodes -= self._count_below(node)
            node.children = None

    def _count_below(self, node: _Node) -> int:
        return sum(1 + self._count_below(child) for child in (node.children or {}).values())


@dataclass(frozen=True)
class _Inner:
    """A node with every state pushed down: a child is an answer or another node, not all the same answer."""

    children: tuple[_Resolved, ...]


_Resolved = bool | _Inner


def _resolve(node: _Node, inherited: bool) -> _Resolved:
    state = inherited if node.state is None else node.state
    if not node.children:
        return state
    children = tuple(
        _resolve(node.children[nibble], state) if nibble in node.children else state for nibble in range(16)
    )
    if isinstance(children[0], bool) and all(child is children[0] for child in children):
        return children[0]
    return _Inner(children)


def _odd_one(node: _Inner) -> tuple[int, bool] | None:
    """When all children but one are the same answer: the index of that one, and the answer of the others."""
    for others in (False, True):
        odd = [index for index, child in enumerate(node.children) if child is not others]
        if len(odd) == 1:
            return odd[0], others
    return None


class _Compiler:
    """Collects the nodes; a reference is `index << 2 | kind` (`_access.pxd`)."""

    def __init__(self) -> None:
        self._skips: list[bytes] = []
        self._rows: list[bytes] = []

    def root(self, node: _Resolved) -> int:
        """A root is worth 1 KiB: most addresses leave it with their answer."""
        if isinstance(node, bool) or _odd_one(node) is not None:
            return self.reference(node)
        return self._wide(node)

    def reference(self, node: _Resolved) -> int:
        if isinstance(node, bool):
            return node << 2 | _LEAF
        if _odd_one(node) is not None:
            return self._skip(node)
        if sum(isinstance(child, _Inner) for child in node.children) >= _BYTE_NODE_CHILDREN:
            return self._wide(node)
        return self._table([self.reference(child) for child in node.children], _NIBBLE)

    def _wide(self, node: _Inner) -> int:
        references = []
        for child in node.children:
            if isinstance(child, bool):
                references += [self.reference(child)] * 16
            else:
                references += [self.reference(grandchild) for grandchild in child.children]
        return self._table(references, _BYTE)

    def _table(self, references: list[int], kind: int) -> int:
        index = len(self._rows)
        self._rows += [_ROW.pack(*references[i : i + 16]) for i in range(0, len(references), 16)]
        return index << 2 | kind

    def _skip(self, node: _Inner) -> int:
        """One node for a run of levels in which a single path differs from an answer they share."""
        value = bits = 0
        miss: bool | None = None
        here: _Resolved = node
        while isinstance(here, _Inner) and bits < _SKIP_BITS_MAX:
            odd = _odd_one(here)
            if odd is None or miss not in (None, odd[1]):
                break
            index, miss = odd
            value = value << 4 | index
            bits += 4
            here = here.children[index]
        shift = 64 - bits
        mask = (1 << bits) - 1 << shift
        hit = self.reference(here)
        self._skips.append(_SKIP.pack(value << shift, mask, hit, self.reference(bool(miss)), bits, 0))
        return len(self._skips) - 1 << 2 | _SKIP_KIND

    def emit(self, root4: int, root6: int, flags: int) -> bytes:
        skips, rows = b"".join(self._skips), b"".join(self._rows)
        row_offset = _HEADER.size + len(skips)
        size = row_offset + len(rows)
        header = _HEADER.pack(
            _MAGIC, _VERSION, size, flags, root4, root6, len(self._skips), len(self._rows), row_offset
        )
        return header + skips + rows
