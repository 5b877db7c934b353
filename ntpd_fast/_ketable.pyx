"""Places for sessions, shared out fairly: who gives way when all are taken, and who is the oldest.

Every operation is O(1), whatever the number of sessions, and takes no memory: a flood of connections must not be able
to buy either here. A session is a number, its place; a network is a number too, made of an address prefix by the
caller, and where it is looked up depends on a secret.
"""

import secrets

from libc.stdint cimport int32_t, uint64_t
from libc.stdlib cimport free, realloc

cdef enum:
    PLACES_MAX = 1 << 24


cdef class SessionTable:
    """At most `places` sessions, each of a prefix (a network), ordered by age."""

    def __cinit__(self):
        self._oldest = self._newest = self._free_place = self._free_group = NOBODY
        self._seed = secrets.randbits(64) | 1

    def __init__(self, places):
        self.resize(places)

    def __dealloc__(self):
        free(self._place)
        free(self._group)
        free(self._row)
        free(self._chain)

    def resize(self, places) -> None:
        """Another number of places. Sessions beyond it keep theirs; nobody is let in before they have ended."""
        if not 1 <= places <= PLACES_MAX:
            raise ValueError("a table without places" if places < 1 else f"no table has {places} places")
        if places > self._room:
            self.grow(places)
        self._places = places

    def __len__(self) -> int:
        return self._count

    @property
    def full(self) -> bool:
        return self._count >= self._places

    def add(self, uint64_t prefix, double now) -> int:
        """Take a place; there has to be one. Which one it is."""
        if self._count >= self._places:
            raise ValueError("no place left")
        return self.take(prefix, now)

    def remove(self, int32_t place) -> None:
        """Give up a place that is taken."""
        if not 0 <= place < self._room or self._place[place].group == NOBODY:
            raise ValueError("nobody has that place")
        self.leave(place)

    def oldest(self) -> tuple[float, int] | None:
        """When the oldest session came, and its place."""
        return None if self._oldest == NOBODY else (self._place[self._oldest].since, self._oldest)

    def count(self, uint64_t prefix) -> int:
        cdef int32_t group = self.find(prefix)
        return 0 if group == NOBODY else self._group[group].count

    def give_way(self, uint64_t prefix) -> int | None:
        """The session to close for a newcomer of `prefix`: the oldest of the prefix with the most sessions.

        None when that would only turn the tables: the newcomer's prefix would then have as many or more. None, too,
        when there would still be no place (`resize`).
        """
        cdef int32_t place = self.victim(prefix)
        return None if place == NOBODY else place

    cdef bint grow(self, int32_t room) except False:
        cdef int32_t i
        cdef int32_t chains = 1
        cdef uint64_t wanted
        cdef void *memory
        while chains < room:
            chains *= 2
        memory = realloc(self._place, room * sizeof(ke_place))
        if memory == NULL:
            raise MemoryError
        self._place = <ke_place *>memory
        memory = realloc(self._group, room * sizeof(ke_group))
        if memory == NULL:
            raise MemoryError
        self._group = <ke_group *>memory
        memory = realloc(self._row, (room + 1) * sizeof(ke_row))
        if memory == NULL:
            raise MemoryError
        self._row = <ke_row *>memory
        if self._chain == NULL or <uint32_t>chains != self._chain_mask + 1:
            memory = realloc(self._chain, chains * sizeof(int32_t))
            if memory == NULL:
                raise MemoryError
            self._chain = <int32_t *>memory
            self._chain_mask = chains - 1
        if self._room == 0:
            self._row[0].first = self._row[0].last = NOBODY
        # the lowest free ones are taken first
        for i in range(room - 1, self._room - 1, -1):
            self._place[i].group = NOBODY
            self._place[i].newer = self._free_place
            self._free_place = i
            self._group[i].count = 0
            self._group[i].chained = self._free_group
            self._free_group = i
            self._row[i + 1].first = self._row[i + 1].last = NOBODY
        for i in range(chains):
            self._chain[i] = NOBODY
        for i in range(self._room):
            if self._group[i].count:
                wanted = self.hash(self._group[i].prefix)
                self._group[i].chained = self._chain[wanted]
                self._chain[wanted] = i
        self._room = room
        return True

    cdef inline uint64_t hash(self, uint64_t prefix) noexcept:
        cdef uint64_t mixed = (prefix ^ self._seed) * <uint64_t>0x9E3779B97F4A7C15
        mixed = (mixed ^ (mixed >> 32)) * self._seed
        return (mixed ^ (mixed >> 29)) & self._chain_mask

    cdef int32_t find(self, uint64_t prefix) noexcept:
        cdef int32_t group = self._chain[self.hash(prefix)]
        while group != NOBODY and self._group[group].prefix != prefix:
            group = self._group[group].chained
        return group

    cdef void move(self, int32_t group, int32_t count) noexcept:
        """Into the row of another count, which differs by one."""
        cdef ke_group *it = &self._group[group]
        cdef ke_row *row
        if it.count:
            row = &self._row[it.count]
            if it.before == NOBODY:
                row.first = it.after
            else:
                self._group[it.before].after = it.after
            if it.after == NOBODY:
                row.last = it.before
            else:
                self._group[it.after].before = it.before
            if row.first == NOBODY and it.count == self._count_max:
                self._count_max = count
        it.count = count
        if count:
            row = &self._row[count]
            it.before = row.last
            it.after = NOBODY
            if row.last == NOBODY:
                row.first = group
            else:
                self._group[row.last].after = group
            row.last = group
            if count > self._count_max:
                self._count_max = count

    cdef int32_t take(self, uint64_t prefix, double now) noexcept:
        cdef int32_t place = self._free_place
        cdef int32_t group = self.find(prefix)
        cdef ke_place *it = &self._place[place]
        cdef uint64_t wanted
        self._free_place = it.newer
        if group == NOBODY:
            group = self._free_group
            self._free_group = self._group[group].chained
            wanted = self.hash(prefix)
            self._group[group].prefix = prefix
            self._group[group].first = self._group[group].last = NOBODY
            self._group[group].chained = self._chain[wanted]
            self._chain[wanted] = group
        it.since = now
        it.group = group
        it.older = self._newest
        it.newer = NOBODY
        if self._newest == NOBODY:
            self._oldest = place
        else:
            self._place[self._newest].newer = place
        self._newest = place
        it.before = self._group[group].last
        it.after = NOBODY
        if it.before == NOBODY:
            self._group[group].first = place
        else:
            self._place[it.before].after = place
        self._group[group].last = place
        self._count += 1
        self.move(group, self._group[group].count + 1)
        return place

    cdef void leave(self, int32_t place) noexcept:
        cdef ke_place *it = &self._place[place]
        cdef int32_t group = it.group
        cdef int32_t *link
        if it.older == NOBODY:
            self._oldest = it.newer
        else:
            self._place[it.older].newer = it.newer
        if it.newer == NOBODY:
            self._newest = it.older
        else:
            self._place[it.newer].older = it.older
        if it.before == NOBODY:
            self._group[group].first = it.after
        else:
            self._place[it.before].after = it.after
        if it.after == NOBODY:
            self._group[group].last = it.before
        else:
            self._place[it.after].before = it.before
        it.group = NOBODY
        it.newer = self._free_place
        self._free_place = place
        self._count -= 1
        self.move(group, self._group[group].count - 1)
        if self._group[group].count == 0:
            link = &self._chain[self.hash(self._group[group].prefix)]
            while link[0] != group:
                link = &self._group[link[0]].chained
            link[0] = self._group[group].chained
            self._group[group].chained = self._free_group
            self._free_group = group

    cdef int32_t victim(self, uint64_t prefix) noexcept:
        cdef int32_t group = self.find(prefix)
        cdef int32_t own = 0 if group == NOBODY else self._group[group].count
        if self._count > self._places or self._count_max <= own + 1:
            return NOBODY
        return self._group[self._row[self._count_max].first].first
