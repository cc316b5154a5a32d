# table.awk: from the output of `go test -v`, the table of the README that says which rows of the table of paths hold for
# which backend, kind of pod interface and flavour of kube-proxy. A row holds if all of its cases in all worlds passed.

/--- (PASS|FAIL): TestPaths(IPTables)?\/[^\/]*\/row/ {
	split($3, name, "/")
	if (name[1] == "TestPaths") {
		name[2] = "nftables_" name[2]
	}
	split(name[2], world, "_")
	cell = world[1] " " world[2] " " world[3]
	row = substr(name[3], 4, 2) + 0
	ran[cell, row] = 1
	if ($2 == "FAIL:") {
		failed[cell, row] = 1
	}
}

# rows are the numbers of those that hold, "1–7 9" for all but 8 of nine.
function rows(cell,    text, row, first) {
	for (row = 1; row <= 17; row++) {
		if (ran[cell, row] && !failed[cell, row]) {
			if (!first) {
				first = row
			}
		} else if (first) {
			text = text (text ? " " : "") first (row - 1 > first ? "–" row - 1 : "")
			first = 0
		}
	}
	return text ? text : "-"
}

END {
	print "| backend | pods on | kube-proxy nft | iptables-nft | iptables-legacy | ipvs |"
	print "|---|---|---|---|---|---|"
	nb = split("nftables iptables-nft iptables-legacy", backends, " ")
	np = split("macvlan ipvlan-l2 ipvlan-l3 ipvlan-l3s", parents, " ")
	nf = split("nft iptables-nft iptables-legacy ipvs", flavours, " ")
	for (b = 1; b <= nb; b++) {
		for (p = 1; p <= np; p++) {
			line = "| " backends[b] " | " parents[p] " |"
			for (f = 1; f <= nf; f++) {
				line = line " " rows(backends[b] " " parents[p] " " flavours[f]) " |"
			}
			print line
		}
	}
}
