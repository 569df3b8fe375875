# within SECONDS COMMAND…: whether it succeeds by then, asked again and again
within() {
    left=$(($1 * 5))
    shift
    until "$@"; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.2
    done
}
