# Under a real systemd: the unit starts, reloads, is restarted, keeps its guard, and goes.
main() { systemctl show --property MainPID --value hookgate; }
active() { equal "$(systemctl is-active hookgate)" active; }
logged() { journalctl --unit hookgate --output cat | grep "$1"; }
has_xdp() { ip link show lo | grep xdp; }

echo "on Linux $(uname -r), systemd $(systemctl --version | sed -n 's/^systemd //p')"
check installs dpkg -i /run/first.deb
check is_not_started_yet not systemctl is-active hookgate
sed -i 's/^domains = .*/domains = ["proxy.example.com"]/' $toml
check upstream_add hookgate upstream add --address 127.0.0.1:9 --no-probe chatwoot.example.com
check enables_and_starts systemctl enable --now hookgate
check is_active active
parent=$(main)
check parent_is_hookgate runs_as "$parent" hookgate
check worker_is_another runs_as "$(worker)" hookgate-worker
check worker_may_nothing equal "$(line "$(worker)" CapPrm)" 0000000000000000
check no_upstream_is_404 answers / 404
check unknown_host_is_403 answers /other.example.com/x 403
check allowed_host_is_502_while_it_is_down answers /chatwoot.example.com/x 502
check command_line_reaches_it hookgate reload
check reloads systemctl reload hookgate
check is_active_after_a_reload within 20 active
check is_hardened systemd-analyze security --no-pager --threshold=20 hookgate
tail -n 1 /run/said

printf '\n[guard]\ninterfaces = ["lo"]\nrefresh = "off"\n' >>$toml
check restarts systemctl restart hookgate
check guard_is_attached has_xdp
check pins_are_the_users_alone mode /sys/fs/bpf/hookgate/program 'hookgate:hookgate 600'
check handshakes_are_counted_too test -e /sys/fs/bpf/hookgate/handshakes
check serves_with_the_guard answers /chatwoot.example.com/x 502

parent=$(main)
another_is_active() { active && not equal "$(main)" "$parent"; }
check dies kill -KILL "$parent"
check is_started_again within 60 another_is_active
parent=$(main)
check upgrades dpkg -i /run/second.deb
check runs_the_new_one within 60 another_is_active
check serves_after_the_upgrade answers /chatwoot.example.com/x 502
check stops systemctl stop hookgate
check ended_well equal "$(systemctl show --property Result --value hookgate)" success
check guard_outlives_it has_xdp
check starts_over_its_pins systemctl start hookgate
check purges dpkg -P hookgate
check guard_is_gone not has_xdp
check unit_is_gone not systemctl cat hookgate
check users_are_gone not getent passwd hookgate hookgate-worker
journalctl --unit hookgate --output cat --no-pager | head -n 60
