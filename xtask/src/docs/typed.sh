# What stands in for the person who types a page's commands. hookgate is the real one, but what goes on until Ctrl-C gets
# that after three seconds, and must have gone on until then and end well.
hookgate() {
    case " $* " in
    " run --takeover "*)
        goes_on env hookgate "$@"
        start_proxy
        ;;
    " run "*)
        stop_proxy
        goes_on env hookgate "$@"
        start_proxy
        ;;
    *" --watch "* | *" --follow "*) goes_on env hookgate "$@" ;;
    " top "*) { sleep 2 && printf q; } | script -qec "stty rows 40 cols 120; env hookgate $*" /dev/null ;;
    " upstream add "*)
        # As on a machine that does not have it yet.
        env hookgate upstream remove "$3" >/dev/null 2>&1 || true
        env hookgate "$@"
        ;;
    *) env hookgate "$@" ;;
    esac
}
goes_on() {
    rm -f /run/went-on
    { sleep 2.5 && touch /run/went-on; } &
    timeout --preserve-status --signal=INT 3 "$@" && test -e /run/went-on
}
