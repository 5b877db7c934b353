# Makes chrony's variant of a file of ours: same content, the names that chrony's users, tools and policies know.
# Used for units, dispatcher scripts and settings of the package that takes chrony's place.
s,/usr/sbin/ntpd-fast\b,/usr/sbin/chronyd,g
s,/usr/bin/ntpc-fast\b,/usr/bin/chronyc,g
s,/etc/ntpd-fast\.(conf|keys),/etc/chrony.\1,g
s,/etc/sysconfig/ntpd-fast\b,/etc/sysconfig/chronyd,g
s,/run/ntpd-fast-dhcp,/run/chrony-dhcp,g
s,(/run|/var/lib|/var/log)/ntpd-fast\b,\1/chrony,g
s,^(User|Group|RuntimeDirectory|StateDirectory|LogsDirectory)=ntpd-fast$,\1=chrony,
s,^( *su) ntpd-fast ntpd-fast$,\1 chrony chrony,
s,^(d .*) ntpd-fast ntpd-fast -,\1 chrony chrony -,
# Its user stays in our group too: the devices of reference clocks belong to it.
s,^Group=chrony$,&\nSupplementaryGroups=ntpd-fast,
# The two names of the same service exclude each other, and one of them says for both who ends first.
/^After=chronyd\.service/d
s,\bchronyd(|-restricted)\.service,@OWN\1@,g
s,\bntpd-fast(|-restricted)\.service,chronyd\1.service,g
s,@OWN(|-restricted)@,ntpd-fast\1.service,g
s,\(ntpd-fast\)$,(chronyd by ntpd-fast),
