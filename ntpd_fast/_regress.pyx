"""Numeric kernels of the measurement statistics: line fits with a runs test.

Called a few times a second with at most `MAX_POINTS` points, from the control plane only: lists come in,
tuples go out, nothing is kept. `ntpd_fast.client.regression` is the face with names and documentation;
the manual input, the RTC and the hardware clocks use the robust fit too.

Rules: no state, no system call, O(n log n) or O(n²) in a bounded n; a fit that cannot be made is None.
"""

from libc.math cimport fabs, fmax, fmin, round as c_round, sqrt
from libc.stdint cimport int64_t

cdef enum:
    # 64 live samples and as many dropped ones kept for the runs test
    CAPACITY = 128

MAX_POINTS = CAPACITY

# Points that a fit keeps however bad its residuals look.
cdef int MIN_FIT_POINTS = 3
# A slope is looked for within ± this of the least squares one.
cdef double MAX_SLOPE_SEARCH = 100.0
# The determinant of the normal equations is noise below this share of its products.
cdef double SINGULAR = 1e-10


cdef int _load(list values, double *out) except -1:
    cdef Py_ssize_t i, n = len(values)
    if n > CAPACITY:
        raise ValueError("too many points")
    for i in range(n):
        out[i] = values[i]
    return <int>n


cdef int _critical_runs(int m) noexcept nogil:
    """Most runs among m residuals that call for dropping points (lower 5 % of 1 + Bin(m − 1, ½))."""
    if m < 8:
        return 0
    return <int>c_round(1.0 + (m - 1) / 2.0 - 1.649 * sqrt(m - 1.0) / 2.0)


cdef int _runs(const double *residuals, int n) noexcept nogil:
    cdef int i, runs = 1
    for i in range(1, n):
        if not ((residuals[i - 1] < 0.0 and residuals[i] < 0.0)
                or (residuals[i - 1] > 0.0 and residuals[i] > 0.0)):
            runs += 1
    return runs


cdef void _sort(double *values, int n) noexcept nogil:
    """Insertion sort: n is small and the values often nearly sorted."""
    cdef int i, j
    cdef double v
    for i in range(1, n):
        v = values[i]
        j = i - 1
        while j >= 0 and values[j] > v:
            values[j + 1] = values[j]
            j -= 1
        values[j + 1] = v


cdef double _median(double *values, int n) noexcept nogil:
    """Median; sorts in place."""
    _sort(values, n)
    if n % 2:
        return values[n // 2]
    return 0.5 * (values[n // 2 - 1] + values[n // 2])


def critical_runs(int m):
    return _critical_runs(m)


def median(list values):
    cdef double buffer[CAPACITY]
    cdef int n = _load(values, buffer)
    if n == 0:
        raise ValueError("median of nothing")
    return _median(buffer, n)


def distance_weights(list distances, double precision):
    cdef double d[CAPACITY]
    cdef double ordered[CAPACITY]
    cdef int i, n = _load(distances, d)
    cdef double lowest, middle, spread
    if n == 0:
        return []
    for i in range(n):
        ordered[i] = d[i]
    middle = _median(ordered, n)
    lowest = ordered[0]
    spread = fmin(fmax((middle - lowest) / 0.7, precision), lowest)
    if not spread > 0.0:
        spread = precision
    lowest += precision
    return [(1.0 + fmax(0.0, d[i] - lowest) / spread) ** 2 for i in range(n)]


def weighted_fit(list x_values, list y_values, list w_values, int min_samples):
    cdef double x[CAPACITY]
    cdef double y[CAPACITY]
    cdef double w[CAPACITY]
    cdef double residuals[CAPACITY]
    cdef int total = _load(x_values, x)
    cdef int n = _load(w_values, w)
    cdef int extra = total - n
    cdef int start = 0, i, m, runs, kept
    cdef double W, u, V, a, b, ss, sum_y
    if _load(y_values, y) != total or extra < 0:
        raise ValueError("unequal lengths")
    if n < MIN_FIT_POINTS:
        return None
    while True:
        W = 0.0
        u = 0.0
        sum_y = 0.0
        for i in range(start, n):
            W += 1.0 / w[i]
            u += x[extra + i] / w[i]
            sum_y += y[extra + i] / w[i]
        u /= W
        V = 0.0
        b = 0.0
        for i in range(start, n):
            V += (x[extra + i] - u) ** 2 / w[i]
            b += y[extra + i] * (x[extra + i] - u) / w[i]
        if not V > 0.0:
            return None
        b /= V
        a = sum_y / W - b * u
        m = min(2 * (n - start), total)
        for i in range(m):
            residuals[i] = y[total - m + i] - a - b * x[total - m + i]
        runs = _runs(residuals, m)
        if runs > _critical_runs(m) or n - start <= MIN_FIT_POINTS or n - start <= min_samples:
            break
        start += 1
    kept = n - start
    ss = 0.0
    for i in range(kept):
        ss += residuals[m - kept + i] ** 2 / w[start + i]
    ss /= kept - 2
    cdef double sd_b = sqrt(ss / V)
    cdef double sd_a = sqrt(ss / W + (u * sd_b) ** 2)
    return a, b, ss * kept / W, sd_a, sd_b, _runs(residuals + (m - kept), kept), start


def curvature(list x_values, list y_values, list w_values):
    cdef double x[CAPACITY]
    cdef double y[CAPACITY]
    cdef double w[CAPACITY]
    cdef int n = _load(x_values, x), i
    cdef double s0 = 0.0, s1 = 0.0, s2 = 0.0, s3 = 0.0, s4 = 0.0, sum_y = 0.0, weighted = 0.0
    cdef double z, a, b = 0.0, r, squares = 0.0, product = 0.0, p, explained
    if _load(y_values, y) != n or _load(w_values, w) != n:
        raise ValueError("unequal lengths")
    if n < 4:
        return None
    for i in range(n):
        s0 += 1.0 / w[i]
        s1 += x[i] / w[i]
        sum_y += y[i] / w[i]
        weighted += 1.0 / (w[i] * w[i])
    for i in range(n):
        x[i] -= s1 / s0
        z = x[i]
        s2 += z * z / w[i]
        s3 += z * z * z / w[i]
        s4 += z * z * z * z / w[i]
        b += y[i] * z / w[i]
    if not s2 > 0.0:
        return None
    a = sum_y / s0
    b /= s2
    # what of x² neither a constant nor a line explains
    p = s4 - s3 * s3 / s2 - s2 * s2 / s0
    if not p > SINGULAR * s4:
        return None
    for i in range(n):
        r = y[i] - a - b * x[i]
        squares += r * r / w[i]
        product += r * x[i] * x[i] / w[i]
    explained = product * product / p
    squares -= explained
    if not squares > 0.0:
        return None
    return sqrt(explained * (n - 3) / squares), s0 * s0 / weighted


def asymmetry_slope(list x_values, list y_values, list z_values):
    cdef double x[CAPACITY]
    cdef double y[CAPACITY]
    cdef double z[CAPACITY]
    cdef int i, n = _load(x_values, x)
    cdef double mx = 0.0, my = 0.0, mz = 0.0
    cdef double xx = 0.0, zz = 0.0, xz = 0.0, xy = 0.0, zy = 0.0, det
    if _load(y_values, y) != n or _load(z_values, z) != n:
        raise ValueError("unequal lengths")
    if n < 4:
        return None
    for i in range(n):
        mx += x[i]
        my += y[i]
        mz += z[i]
    mx /= n
    my /= n
    mz /= n
    for i in range(n):
        xx += (x[i] - mx) * (x[i] - mx)
        zz += (z[i] - mz) * (z[i] - mz)
        xz += (x[i] - mx) * (z[i] - mz)
        xy += (x[i] - mx) * (y[i] - my)
        zy += (z[i] - mz) * (y[i] - my)
    det = xx * zz - xz * xz
    if not det > SINGULAR * xx * zz:
        return None
    return (xx * zy - xz * xy) / det


cdef double _slope_score(const double *x, const double *y, int n, double b, double *scratch, double *a) noexcept nogil:
    """Σ x·sign(residual) of the line with slope b through the median; falls as b grows. Sets the intercept."""
    cdef int i
    cdef double score = 0.0, r
    for i in range(n):
        scratch[i] = y[i] - b * x[i]
    a[0] = _median(scratch, n)
    for i in range(n):
        r = y[i] - b * x[i] - a[0]
        if r > 0.0:
            score += x[i]
        elif r < 0.0:
            score -= x[i]
    return score


def robust_fit(list x_values, list y_values, double tolerance):
    cdef double x[CAPACITY]
    cdef double y[CAPACITY]
    cdef double scratch[CAPACITY]
    cdef int i, n = _load(x_values, x), m, runs, start = 0
    cdef double a = 0.0, b, lo, hi, mid, f_lo, f_hi, f_mid, step, sd_b
    cdef double mx, my, xx, xy, ss
    if _load(y_values, y) != n:
        raise ValueError("unequal lengths")
    if n < 2 or not tolerance > 0.0:
        return None
    if n == 2:
        if x[0] == x[1]:
            return None
        b = (y[1] - y[0]) / (x[1] - x[0])
        return y[0] - b * x[0], b, 2, 0
    while True:
        m = n - start
        mx = 0.0
        my = 0.0
        for i in range(start, n):
            mx += x[i]
            my += y[i]
        mx /= m
        my /= m
        xx = 0.0
        xy = 0.0
        for i in range(start, n):
            xx += (x[i] - mx) * (x[i] - mx)
            xy += (x[i] - mx) * (y[i] - my)
        if not xx > 0.0:
            return None
        b = xy / xx
        ss = 0.0
        for i in range(start, n):
            ss += (y[i] - my - b * (x[i] - mx)) ** 2
        sd_b = sqrt(ss / xx)
        step = fmax(sd_b, tolerance)
        while True:
            if step > MAX_SLOPE_SEARCH:
                return None
            lo = b - step
            hi = b + step
            f_lo = _slope_score(x + start, y + start, m, lo, scratch, &a)
            f_hi = _slope_score(x + start, y + start, m, hi, scratch, &a)
            if f_lo * f_hi <= 0.0:
                break
            step *= 2.0
        while hi - lo > tolerance:
            mid = 0.5 * (lo + hi)
            # the tolerance may be below what a double can tell apart at this slope
            if mid <= lo or mid >= hi:
                break
            f_mid = _slope_score(x + start, y + start, m, mid, scratch, &a)
            if f_mid == 0.0:
                lo = mid
                hi = mid
            elif f_lo * f_mid <= 0.0:
                hi = mid
                f_hi = f_mid
            else:
                lo = mid
                f_lo = f_mid
        b = 0.5 * (lo + hi)
        _slope_score(x + start, y + start, m, b, scratch, &a)
        for i in range(m):
            scratch[i] = y[start + i] - a - b * x[start + i]
        runs = _runs(scratch, m)
        if runs > _critical_runs(m) or m <= MIN_FIT_POINTS:
            return a, b, runs, start
        start += 1


def slew_samples(list times_ns, list offsets_s, int64_t when_ns, double dfreq, double doffset_s):
    cdef Py_ssize_t i, n = len(times_ns)
    cdef int64_t t
    cdef double shift
    if len(offsets_s) != n:
        raise ValueError("unequal lengths")
    for i in range(n):
        t = times_ns[i]
        shift = <double>(when_ns - t) * 1e-9 * dfreq - doffset_s
        times_ns[i] = t + <int64_t>c_round(shift * 1e9)
        offsets_s[i] = <double>offsets_s[i] + shift
