# debootstrap's second stage in $root, whose programs are another processor's: the kernel starts them through $emulator, the
# unpacked package of QEMU's user mode. That is registered in a user namespace alone, which Linux has from 6.7 on; this machine
# keeps what it has.
set -e
unshare --user sleep infinity &
holder=$!
trap 'kill $holder' EXIT
until [ "$(readlink /proc/$holder/ns/user)" != "$(readlink /proc/self/ns/user)" ]; do sleep 0.1; done
echo 0 0 65536 >/proc/$holder/uid_map
echo 0 0 65536 >/proc/$holder/gid_map
# A root that is not made to its end is made anew.
echo force-unsafe-io >"$root/etc/dpkg/dpkg.cfg.d/unsafe-io"
export root emulator
nsenter --user=/proc/$holder/ns/user unshare --mount --pid --fork --kill-child sh -ec '
    formats=/proc/sys/fs/binfmt_misc
    if [ ! -e $formats/qemu-aarch64 ]; then
        mount -t binfmt_misc binfmt_misc $formats || {
            echo "this kernel shares its formats of binaries (before Linux 6.7): apt-get install qemu-user-static" >&2
            exit 1
        }
        sed "s|:/usr/libexec|:$emulator/usr/libexec|" "$emulator/usr/lib/binfmt.d/qemu-aarch64.conf" >$formats/register
    fi
    # container=lxc: devices cannot be made here, and have been.
    env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root DEBIAN_FRONTEND=noninteractive LC_ALL=C.UTF-8 container=lxc \
        chroot "$root" /debootstrap/debootstrap --second-stage'
