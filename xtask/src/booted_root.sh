# Makes a container of the root in whose folder we are, and starts its systemd. The script `tests` is its last unit: where it
# succeeds, the container is powered off, which a parent sees as SIGINT, or else rebooted, which is SIGHUP.
mount -t tmpfs -o mode=755 tmpfs dev
for node in null:3 zero:5 full:7 random:8 urandom:9 console:3; do
    mknod -m 666 "dev/${node%:*}" c 1 "${node#*:}"
done
mknod -m 666 dev/tty c 5 0
mkdir dev/pts dev/shm
mount -t devpts -o newinstance,ptmxmode=0666,mode=620 devpts dev/pts
mount -t tmpfs tmpfs dev/shm
ln -s pts/ptmx dev/ptmx
ln -s /proc/self/fd dev/fd
# The kernel's settings are this machine's.
mount --bind proc/sys proc/sys
mount -o remount,ro,bind proc/sys
mount -o remount,ro,bind sys
echo 0123456789abcdef0123456789abcdef >etc/machine-id

cp "$tests" srv/tests
cat >etc/systemd/system/tests.service <<END
[Unit]
After=multi-user.target
[Service]
Type=oneshot
TimeoutStartSec=infinity
StandardOutput=file:/run/output
StandardError=inherit
ExecStart=/bin/sh -c 'if sh /srv/tests; then systemctl poweroff -ff; else systemctl reboot -ff; fi'
END
mkdir -p etc/systemd/system/multi-user.target.wants
ln -s ../tests.service etc/systemd/system/multi-user.target.wants/
mkfifo run/output
cat run/output &

# A control group of its own, which it takes for the first.
mount -t cgroup2 cgroup2 sys/fs/cgroup
mkdir "sys/fs/cgroup/$group"
echo 0 >"sys/fs/cgroup/$group/cgroup.procs"
mkdir old
pivot_root . old
exec unshare --cgroup sh -ec '
    umount /sys/fs/cgroup
    umount -l /old
    rmdir /old
    mount -t cgroup2 cgroup2 /sys/fs/cgroup
    exec env -i container=hookgate PATH=/usr/sbin:/usr/bin:/sbin:/bin \
        /sbin/init --log-target=journal --show-status=false'
