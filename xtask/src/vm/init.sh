#!/bin/busybox sh
# The guest's first program: puts the host's files, which it can only read, under a layer of its own, and goes there. A guest of
# another processor than the host's brings its programs along, in /run/bin.
set -e
export PATH=/bin
busybox mkdir -p /proc /sys /dev /host /layer /root
busybox mount -t proc proc /proc
busybox mount -t sysfs sysfs /sys
busybox mount -t devtmpfs dev /dev
busybox modprobe -a $(busybox cat /modules)
busybox mount -t virtiofs -o ro host /host
busybox mount -t tmpfs layer /layer
busybox mkdir /layer/upper /layer/work
busybox mount -t overlay -o lowerdir=/host,upperdir=/layer/upper,workdir=/layer/work root /root
for mount in proc sys dev; do
    busybox mount --move /$mount /root/$mount
done
busybox cp /tests /root/run/tests
if [ -e /brings-programs ]; then
    busybox mkdir /root/run/bin
    busybox cp /bin/busybox /root/run/bin/busybox
    for program in $(busybox --list); do
        [ "$program" = busybox ] || busybox ln -s busybox /root/run/bin/$program
    done
    exec busybox switch_root /root /run/bin/sh /run/tests
fi
exec busybox switch_root /root /bin/sh /run/tests
