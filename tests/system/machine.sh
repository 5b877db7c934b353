#!/bin/sh
# Start systemd as the first process of a machine that is a copy of this one: machine.sh DIRECTORY CGROUP, as root.
#
# The root file system is an overlay (changes go to memory and are gone afterwards); process ids, mounts, network,
# cgroups and names are its own. Nothing in it can touch the clock, load a module or reboot: the capabilities are gone
# before anything runs. What was changed can be seen in /mnt.
set -eu

if [ "$2" != inside ]; then
    echo $$ >"$2/cgroup.procs"
    exec setpriv --bounding-set=-sys_time,-wake_alarm,-sys_boot,-sys_module,-sys_rawio,-syslog,-mknod \
        --inh-caps=-all unshare -m -p -f -n -C -i -u --kill-child --propagation private sh "$0" "$1" inside
fi

mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
mount --bind "$1/upper" "$1/root/mnt"
mount -t tmpfs -o mode=755 tmpfs "$1/root/dev"
for device in null zero full random urandom tty; do
    touch "$1/root/dev/$device"
    mount --bind "/dev/$device" "$1/root/dev/$device"
done
cd "$1/root"
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
mount -t tmpfs tmpfs dev/shm
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t tmpfs tmpfs sys/fs/cgroup 2>/dev/null || :
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount -t tmpfs -o mode=755 tmpfs run
mount -t tmpfs -o mode=1777 tmpfs tmp
mkdir tmp/old
ip link set lo up
pivot_root . tmp/old
cd /
umount -l /tmp/old
rmdir /tmp/old

# as little of a system as will do
rm -rf /etc/systemd/system/*.wants
ln -sf /lib/systemd/system/basic.target /etc/systemd/system/default.target
for unit in tmp.mount systemd-firstboot.service systemd-hwdb-update.service systemd-modules-load.service \
    systemd-networkd.service systemd-random-seed.service systemd-remount-fs.service systemd-resolved.service \
    systemd-sysctl.service systemd-sysusers.service systemd-timesyncd.service systemd-tmpfiles-setup.service \
    systemd-udev-trigger.service systemd-udevd.service systemd-update-utmp.service; do
    ln -sf /dev/null /etc/systemd/system/$unit
done
hostname ntpd-fast-test
container=ntpd-fast-test exec /lib/systemd/systemd --system --show-status=no </dev/null >/dev/null 2>&1
