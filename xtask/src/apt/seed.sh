# What a machine's provider hands over to cloud-init: packaging/cloud-init.yaml, with the repository's key pasted into it.
seed=var/lib/cloud/seed/nocloud
mkdir -p $seed srv/www
echo 'instance-id: test' >$seed/meta-data
cp -r "$world/after" srv/www/hookgate
awk 'NR == FNR { key = key "      " $0 "\n"; next }
    /the lines of hookgate.asc/ { printf "%s", key; next }
    { print }' "$world/after/hookgate.asc" "$packaging/cloud-init.yaml" |
    sed 's#https://packages.example.com/#file:/srv/www/#' >$seed/user-data
# The archive is out of reach, there is no network to set up, and no locale to be had.
rm -rf etc/apt/sources.list etc/apt/sources.list.d
mkdir etc/apt/sources.list.d
printf '%s\n' 'datasource_list: [NoCloud]' 'network: {config: disabled}' 'apt: {preserve_sources_list: true}' 'locale: false' \
    >etc/cloud/cloud.cfg.d/99-test.cfg
