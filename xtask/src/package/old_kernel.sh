# On a kernel that is too old for the guard: hookgate says so, and serves.
echo "on Linux $(uname -r), systemd $(systemctl --version | sed -n 's/^systemd //p')"
check installs dpkg -i /run/first.deb
sed -i 's/^domains = .*/domains = ["proxy.example.com"]/' $toml
check upstream_add hookgate upstream add --address 127.0.0.1:9 --no-probe chatwoot.example.com
guard_lo
check enables_and_starts systemctl enable --now hookgate
journalctl --unit hookgate --output cat --no-pager >/run/journal
check says_that_there_is_no_guard grep 'guard: not attached, serving without it: .*Linux 5.15' /run/journal
cat /run/said
check says_that_files_are_not_kept_away grep 'Landlock, Linux 5.13' /run/journal
check no_upstream_is_404 answers / 404
check unknown_host_is_403 answers /other.example.com/x 403
check allowed_host_is_502_while_it_is_down answers /chatwoot.example.com/x 502
check stats_say_so sh -c 'hookgate stats --json | grep -q "\"state\": *\"\(unsupported\|detached\)\""'
hookgate doctor >/run/doctor 2>&1
check doctor_says_so grep '5\.15' /run/doctor
cat /run/said
check upgrades dpkg -i /run/second.deb
check serves_after_the_upgrade answers /chatwoot.example.com/x 502
check reloads systemctl reload hookgate
check stops systemctl stop hookgate
check ended_well equal "$(systemctl show --property Result --value hookgate)" success
journalctl --unit hookgate --output short-precise --no-pager | tail -n 60
ran package "$system, emulated" "too old for the guard: says so, and serves; upgraded"
