# retry_until SECONDS COMMAND…: runs the command again and again; fails if it has not succeeded by then
retry_until() {
    left=$(($1 * 5))
    shift
    until "$@"; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.2
    done
}
