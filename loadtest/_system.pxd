"""What the generator asks of the system: sockets, epoll, clocks. Declarations and one-liners, nothing to link."""

from libc.stdint cimport int64_t, uint8_t, uint16_t, uint32_t

from ntpd_fast._socket cimport (
    CMSG_DATA, CMSG_FIRSTHDR, CMSG_LEN, CMSG_NXTHDR, CMSG_SPACE, cmsghdr, iovec, mmsghdr, msghdr, recvmmsg, sendmmsg,
    timespec,
)

cdef extern from "<sys/socket.h>" nogil:
    enum: AF_INET, AF_INET6, SOL_SOCKET, MSG_DONTWAIT, MSG_TRUNC

cdef extern from "<netinet/in.h>" nogil:
    struct in_addr:
        uint32_t s_addr
    struct sockaddr_in:
        uint16_t sin_family
        uint16_t sin_port
        in_addr sin_addr
    struct in6_addr:
        uint8_t s6_addr[16]
    struct sockaddr_in6:
        uint16_t sin6_family
        uint16_t sin6_port
        uint32_t sin6_flowinfo
        in6_addr sin6_addr
        uint32_t sin6_scope_id
    struct in_pktinfo:
        int ipi_ifindex
        in_addr ipi_spec_dst
        in_addr ipi_addr
    struct in6_pktinfo:
        in6_addr ipi6_addr
        unsigned int ipi6_ifindex
    enum: IPPROTO_IP, IPPROTO_IPV6, IP_PKTINFO, IPV6_PKTINFO
    uint16_t htons(uint16_t value)
    uint32_t htonl(uint32_t value)
    uint32_t ntohl(uint32_t value)

cdef extern from "<netinet/udp.h>" nogil:
    enum: SOL_UDP, UDP_SEGMENT

cdef extern from "<sys/epoll.h>" nogil:
    ctypedef union epoll_data_t:
        int fd
    struct epoll_event:
        uint32_t events
        epoll_data_t data
    int epoll_create1(int flags)
    int epoll_ctl(int epfd, int op, int fd, epoll_event *event)
    int epoll_wait(int epfd, epoll_event *events, int count, int timeout_ms)
    enum: EPOLLIN, EPOLL_CTL_ADD, EPOLL_CLOEXEC

cdef extern from "<sys/prctl.h>" nogil:
    int prctl(int option, unsigned long value)
    enum: PR_SET_TIMERSLACK

cdef extern from "<time.h>" nogil:
    int clock_gettime(int clock, timespec *value)
    int nanosleep(const timespec *wanted, timespec *left)
    enum: CLOCK_REALTIME, CLOCK_MONOTONIC

cdef extern from "<unistd.h>" nogil:
    int close(int fd)

cdef extern from *:
    """
    /* SO_TIMESTAMPING's control message carries this option's own number; glibc hides it behind a macro. */
    #define LOADTEST_SCM_TIMESTAMPING 37
    """
    enum: SCM_TIMESTAMPING "LOADTEST_SCM_TIMESTAMPING"


cdef inline int64_t clock_ns(int clock) noexcept nogil:
    cdef timespec now
    clock_gettime(clock, &now)
    return <int64_t>now.tv_sec * 1000000000 + now.tv_nsec


cdef inline void nap(int64_t wanted_ns) noexcept nogil:
    cdef timespec wanted
    if wanted_ns <= 0:
        return
    wanted.tv_sec = 0
    wanted.tv_nsec = wanted_ns
    nanosleep(&wanted, NULL)
