# Tests in shell: a line each in the test runner's words, under the name of their `group`.
set -u
passed=0 failed=0

# check NAME COMMAND…
check() {
    name=$1
    shift
    if "$@" >/run/said 2>&1; then
        passed=$((passed + 1))
        echo "test $group::$name ... ok"
    else
        failed=$((failed + 1))
        echo "test $group::$name ... FAILED: $*"
        sed 's/^/    /' /run/said
    fi
}
# ran KIND SYSTEM WHAT: for the table of what was run where, if all went well
ran() { [ $failed -ne 0 ] || echo "RAN: $1 | $2 | $3"; }
finish() {
    echo "test result: $([ $failed -eq 0 ] && echo ok || echo FAILED). $passed passed; $failed failed; 0 ignored"
    exit $failed
}
