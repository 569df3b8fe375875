# In a small Debian, as root, without systemd and without a network but lo: installs /run/first.deb, works with it, upgrades
# to /run/second.deb, and purges it. Each check is a line in the test runner's words.
set -u
export DEBIAN_FRONTEND=noninteractive
toml=/etc/hookgate/hookgate.toml
passed=0 failed=0

# check NAME COMMAND…
check() {
    name=$1
    shift
    if "$@" >/run/said 2>&1; then
        passed=$((passed + 1))
        echo "test package::$name ... ok"
    else
        failed=$((failed + 1))
        echo "test package::$name ... FAILED: $*"
        sed 's/^/    /' /run/said
    fi
}
not() { ! "$@"; }
equal() { [ "$1" = "$2" ] || { echo "$1 instead of $2" && false; }; }
# within SECONDS COMMAND…
within() {
    left=$(($1 * 5))
    shift
    until "$@"; do
        left=$((left - 1))
        [ $left -gt 0 ] || return 1
        sleep 0.2
    done
}
mode() { equal "$(stat -c '%U:%G %a' "$1")" "$2"; }
# status PATH: of the proxy's answer to a POST
status() { curl -sk --max-time 20 -o /dev/null -w '%{http_code}' -d '{}' "https://127.0.0.1$1"; }
answers() { equal "$(status "$1")" "$2"; }
files() { find / -xdev -path /var/lib/dpkg -prune -o -path /var/log -prune -o -path /var/cache -prune -o -print | sort; }

# As the unit starts it: its user, its capabilities, none more.
capabilities=$(printf ',+%s' net_bind_service setuid setgid kill net_admin bpf perfmon)
start() {
    install -d -o hookgate -g hookgate -m 0750 /run/hookgate
    setpriv --reuid hookgate --regid hookgate --init-groups --no-new-privs --bounding-set "-all$capabilities" \
        --inh-caps "-all$capabilities" --ambient-caps "-all$capabilities" hookgate run >/dev/null 2>/run/log &
    parent=$!
    within 10 curl -s -o /dev/null http://127.0.0.1:9432/health || { cat /run/log && false; }
}
stop() {
    kill -TERM "$parent"
    wait "$parent"
}
worker() { cat "/proc/$parent/task/$parent/children" | tr -d ' '; }
# uid PID NAME
runs_as() { equal "$(awk '/^Uid:/ {print $2, $3, $4, $5}' "/proc/$1/status")" "$(id -u "$2" | sed 's/.*/& & & &/')"; }
line() { awk -v key="$2:" '$1 == key {print $2}' "/proc/$1/status"; }

files >/run/before

# Installing
check installs dpkg -i /run/first.deb
cp /run/said /run/postinst
check says_what_to_do_next grep -q 'name this machine in /etc/hookgate/hookgate.toml' /run/postinst
check configuration_is_readable mode $toml 'root:root 644'
check state_is_the_users_alone mode /var/lib/hookgate 'hookgate:hookgate 700'
check users_have_no_shell equal "$(getent passwd hookgate hookgate-worker | cut -d: -f7 | sort -u)" /usr/sbin/nologin
check worker_is_in_its_own_group_alone equal "$(id -Gn hookgate-worker)" hookgate-worker
check files_are_whole equal "$(dpkg --verify hookgate)" ""
check manual_is_there test -s /usr/share/man/man1/hookgate-upstream-add.1.gz
check check_names_the_line not hookgate check
check and_the_key grep -q "$toml:.*domains" /run/said
check unit_is_well_formed systemd-analyze verify hookgate.service hookgate.socket
check unit_is_hardened systemd-analyze security --offline=true --threshold=20 hookgate.service
tail -1 /run/said

# The one line, and an upstream
sed -i 's/^domains = .*/domains = ["proxy.example.com"]/' $toml
check check_is_content hookgate check
check upstream_add hookgate upstream add --address 127.0.0.1:9 --no-probe chatwoot.example.com
systemd-tmpfiles --create hookgate.conf
check starts_as_its_user start
check parent_is_hookgate runs_as "$parent" hookgate
check worker_is_another runs_as "$(worker)" hookgate-worker
check worker_may_nothing equal "$(line "$(worker)" CapPrm)$(line "$(worker)" CapBnd)$(line "$(worker)" NoNewPrivs)" \
    "0000000000000000$(line "$parent" CapBnd)1"
check no_upstream_is_404 answers / 404
check unknown_host_is_403 answers /other.example.com/x 403
check allowed_host_is_502_while_it_is_down answers /chatwoot.example.com/x 502
check command_line_reaches_it hookgate reload
check reloads_on_a_signal kill -HUP "$parent"
check upstream_add_reloads hookgate upstream add --address 127.0.0.1:9 --no-probe second.example.com
check new_upstream_is_served within 5 answers /second.example.com/x 502
check stops stop

# With the guard
printf '\n[guard]\ninterfaces = ["lo"]\nrefresh = "off"\n' >>$toml
check starts_with_the_guard start
check guard_is_attached sh -c 'ip link show lo | grep -q xdp'
check pins_are_the_users_alone mode /sys/fs/bpf/hookgate/program 'hookgate:hookgate 600'
check serves_with_the_guard answers /chatwoot.example.com/x 502
check stops_again stop
check guard_outlives_it sh -c 'ip link show lo | grep -q xdp'
check starts_over_its_pins start
check stops_once_more stop

# Upgrading
sum=$(md5sum $toml)
check upgrades dpkg -i /run/second.deb
check edited_configuration_is_kept equal "$(md5sum $toml)" "$sum"
check upgrade_is_another_version equal "$(dpkg-query -W -f '${Version}' hookgate)" \
    "$(dpkg-deb -f /run/second.deb Version)"
check starts_after_the_upgrade start
check serves_after_the_upgrade answers /chatwoot.example.com/x 502
stop

# Removing and purging
check removes dpkg -r hookgate
check guard_is_gone sh -c '! ip link show lo | grep -q xdp'
check configuration_stays test -f $toml
check purges dpkg -P hookgate
check users_are_gone not getent passwd hookgate hookgate-worker
files >/run/after
# adduser keeps copies of what it changed.
check nothing_is_left sh -c 'diff /run/before /run/after | grep "^>" | grep -v -e "/etc/.*-$" -e /run/ -e /tmp/; test $? = 1'

echo "test result: $([ $failed -eq 0 ] && echo ok || echo FAILED). $passed passed; $failed failed; 0 ignored"
exit $failed
