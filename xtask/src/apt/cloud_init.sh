# A machine that boots for the first time with packaging/cloud-init.yaml serves, by itself.
yaml=/srv/test/packaging/cloud-init.yaml
check cloud_init_knows_every_key cloud-init schema --config-file $yaml
sed 's/^packages:.*/packages: 5/' $yaml >/run/wrong.yaml
check and_would_say_if_not refused 'packages' cloud-init schema --config-file /run/wrong.yaml
check cloud_init_ends_well sh -c 'cloud-init status --wait --long | tee /dev/stderr | grep "^\.*status: done\$"'
check installs is_version "$second"
check runs retry_until 20 active
check unit_is_enabled systemctl is-enabled hookgate
check name_is_configured grep '^domains = \["proxy.example.com"\]' $toml
check configuration_is_right hookgate check
check no_upstream_is_404 answers / 404
check unknown_host_is_403 answers /other.example.com/x 403
check allowed_host_is_502_without_a_network answers /chatwoot.example.com/x 502
[ $failed -eq 0 ] || tail -n 40 /var/log/cloud-init-output.log
ran cloud-init "$system" "cloud-init $(dpkg-query -W -f '${Version}' cloud-init): packaging/cloud-init.yaml at the first boot; hookgate serves"
