# The guest's first program, among the host's files: goes on to those of the small Debian, and starts its systemd.
set -e
# A guest of another processor has its own programs in the first folder.
export PATH=/run/bin:/usr/sbin:/usr/bin:/sbin:/bin
overlay=/run/overlay
mkdir $overlay
mount -t tmpfs tmpfs $overlay
mkdir $overlay/upper $overlay/work $overlay/root
mount -t overlay -o "lowerdir=$lower,upperdir=$overlay/upper,workdir=$overlay/work" root $overlay/root
cd $overlay/root
mkdir -p "lib/modules/$(uname -r)" old
cp -r "$modules/." "lib/modules/$(uname -r)"
cp "$busybox" sbin/modprobe
mkdir -p srv/test
cp "$first" srv/test/first.deb
cp "$second" srv/test/second.deb
cp "$tests" srv/test/tests
cat >etc/systemd/system/tests.service <<EOF
[Service]
StandardOutput=file:$line
StandardError=inherit
ExecStartPre=/bin/stty -F $line raw
ExecStartPre=/bin/cp /srv/test/first.deb /srv/test/second.deb /run
ExecStart=-/bin/sh /srv/test/tests
ExecStart=/bin/echo done
ExecStart=/bin/sh -c 'systemctl poweroff --force --force >/dev/null 2>&1'
Type=oneshot
EOF
mkdir -p etc/systemd/system/multi-user.target.wants
ln -s ../tests.service etc/systemd/system/multi-user.target.wants/
mount --move /proc proc
mount --move /sys sys
mount --move /dev dev

"$busybox" pivot_root . old
exec chroot . /sbin/init </dev/console >/dev/console 2>&1
