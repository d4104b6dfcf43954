package main

// commands lists the subcommands in the order in which help shows them.
func commands() []command {
	return []command{
		{"demo", "[-json] [-keep] [-seed N]", "play the leak of 2008 in a small Internet on this machine",
			"Starts a node, mailbox providers, customers and a spammer on loopback addresses,\nand plays what happened in 2008: how the leak works, how the first complaint about\nmail that nobody sent opens an incident, what it did, and how it is repaired. With\n-json each complaint is one line, and the last line is the sum; the story goes to\nstandard error. Exit status 1: something did not go as it must.",
			"postern demo\npostern demo -keep\npostern demo -json | tail -n 1", runDemo},
		{"init", "[-hostname NAME] [FILE]", "write a commented, safe starter configuration",
			"Writes a starter configuration to FILE (postern.hcl), which must not exist. It relays\nfor nobody until a customer is entered.",
			"postern init -hostname gw.example.com postern.hcl", runInit},
		{"check", "[-json|-sarif|-smt2] [-repair] [-replay] [-q] FILE|DIR", "prove what a configuration may relay, or show how it leaks",
			checkHelp, "postern check /etc/postern/postern.hcl\npostern check -repair postern.hcl", runCheck},
		{"diff", "[-json] OLD NEW", "say which messages change their fate between two configurations",
			diffHelp, "postern diff postern.hcl postern.hcl.new", runDiff},
		{"explain", "-from-peer A -mail-from S -rcpt R [FLAGS] FILE|DIR", "trace one message through the filters",
			explainHelp, "postern explain -from-peer 203.0.113.9 -mail-from a@b.example -rcpt user@aol.com postern.hcl", runExplain},
		{"fmt", "[-w] [FILE...]", "format configuration files",
			"Prints the files in canonical format, or with -w writes them back. Without a file it\nreads standard input. Exit status 2: a file cannot be read as HCL.",
			"postern fmt -w postern.hcl", runFmt},
		{"serve", "FILE|DIR", "run the gateway",
			"Runs the gateway in the foreground until SIGINT or SIGTERM, then lets transactions end and\nstops. SIGHUP reloads the configuration. A policy that is not closed (postern check) and\nnot waived is not served: exit status 1 open, 2 cannot tell.",
			"postern serve /etc/postern/postern.hcl", runServe},
		{"reload", "[-reason TEXT] FILE|DIR", "load the configuration of a running node again",
			"Parses, builds and proves the configuration; only if all is well does it replace the\nrunning one. Running sessions finish on the policy they began with. The file is the\none that the node was started with. Listeners' addresses, TLS and limits, and the\nstate folder, need a restart.",
			"postern reload -reason 'drop filter first' /etc/postern/postern.hcl", runReload},
		{"status", "[-json] FILE|DIR", "say what a running node does",
			"Prints version, policy, listeners, queue and open incidents of a running node.",
			"postern status /etc/postern/postern.hcl", runStatus},
		{"health", "FILE|DIR", "exit 0 if the node answers and is ready",
			"For health checks of containers and supervisors. Exit status: 0 it takes mail, 2 it does\nnot, or does not answer.", "postern health /etc/postern/postern.hcl", runHealth},
		{"queue", "ACTION [FLAGS] FILE|DIR", "look at and act on mail that waits",
			queueHelp, "postern queue ls -domain aol.com postern.hcl\npostern queue bounce -domain gone.example -note 'domain is gone' postern.hcl\npostern queue suspend -campaign spring-sale -for 2h -note 'wrong link' postern.hcl\npostern queue suspend -source 198.51.100.7 -provider gmail -for 4h -note 'listed' postern.hcl", runQueue},
		{"shaping", "explain|ls|undo|test|rules [FLAGS] [ARGUMENT] [FILE|DIR]", "say how fast mail may go where, and what replies set off",
			shapingHelp, "postern shaping explain gmail.com\npostern shaping test -destination yahoo replies.txt\npostern shaping ls postern.hcl\npostern shaping undo Smif0k2x1 postern.hcl", runShaping},
		{"suppress", "add|rm|get|ls|count|import|export|erase [FLAGS] [ADDRESS...] FILE|DIR", "keep addresses from being mailed",
			suppressHelp, "postern suppress add -customer acme -note 'asked by phone' someone@example.com postern.hcl\npostern suppress get -customer acme someone@example.com postern.hcl\npostern suppress import -customer acme -reason unsubscribe list.csv.gz postern.hcl\npostern suppress export -customer acme postern.hcl | gzip > acme.csv.gz", runSuppress},
		{"trace", "[-json] [-message-id ID | -recipient ADDRESS | -id ID] FILE|DIR", "tell one message's whole life",
			"Prints everything that the ledger knows of a message, in order: who handed it over,\nwhat the policy decided and by which filter, every attempt, the hand-off with the\npeer's reply, complaints and bounces about it. Exit status 1: there is no such message.",
			"postern trace -recipient user@aol.com postern.hcl\npostern trace -json -id 06h0zy32ne1vrrs81m00 postern.hcl | jq .events", runTrace},
		{"impact", "[-json] INCIDENT FILE|DIR", "count exactly what went out by an incident's path",
			"Counts the hand-offs on the incident's path by destination, filter, source and hour.",
			"postern impact INC-2026-0001 postern.hcl", runImpact},
		{"incident", "ls|show|contain|release|repaired|close|advisory [FLAGS] [INCIDENT] FILE|DIR", "see what opened, hold it, release it, write it up",
			incidentHelp, "postern incident ls postern.hcl\npostern incident contain -note 'hold it first' INC-2026-0001 postern.hcl\npostern incident advisory INC-2026-0001 postern.hcl > advisory.md", runIncident},
		{"audit", "[-json] [-dialect NAME] PATH", "prove of another server's configuration that it relays for no stranger",
			auditHelp, "postern audit /etc/postfix\npostconf -n > main.cf; postern audit -json main.cf", runAudit},
		{"watch", "[FLAGS] FILE|DIR | -once FILE...", "follow other servers' logs, or sum up their history",
			watchHelp, "postern watch /etc/postern/postern.hcl\npostern watch -once /var/log/mail.log* complaints/\npostern watch -once -json -customer vmta acct-*.csv fbl.mbox", runWatch},
		{"report", "[export -format F] [-json] [-config FILE|DIR] FILE...", "judge saved complaints and bounces, or tell them on",
			"Reads saved mail and says of each whether it is about mail that somebody of ours sent.\nWith -config it asks that running node's ledger; without, it tells what the report\nsays and no more. Nothing is recorded and no incident opens. Exit status: 1 one was\nleaked or bypassed, 2 a file cannot be read.\nreport export writes them in another form: -format arf (RFC 5965, of bounces RFC 3464),\nxarf (version 4), or json, with -config FILE and its verdict.",
			"postern report -json -config postern.hcl complaint.eml", runReport},
		{"keys", "ls|rotate [-json] FILE|DIR", "list and rotate the keys of stamps",
			"ls lists the keys without their secrets. rotate adds a new key, which mints from the\nnext reload on; older ones go on to verify.",
			"postern keys rotate postern.hcl", runKeys},
		{"dkim", "keygen|record|check [FLAGS] [NAME...] KEYFILE|FILE|DIR", "make, publish and check the keys that sign mail",
			dkimHelp, "postern dkim keygen -algorithm ed25519 /etc/postern/acme-2026.key\npostern dkim record postern.hcl\npostern dkim check acme-2026 postern.hcl", runDKIM},
		{"passwd", "", "make the verifier of a password",
			"Asks for a password on a terminal, without showing it, or reads it from a pipe, and prints\nits SCRAM-SHA-256 verifier, for the users of a customer.", "printf %s 'secret' | postern passwd", runPasswd},
		{"version", "", "print the version", "Prints the version, that of Go, and the machine's kind.", "postern version", runVersion},
	}
}

const queueHelp = `ls       lists what waits or is held
show     prints one message: postern queue show ID FILE
sites    lists the sites that have something ready, or connections
hold     keeps back
release  lets what is held go on
retry    tries at once what waits
bounce   gives up with a DSN
drop     discards
suspend  keeps back what waits and what is still to come, until it is resumed or -for is
         over: of a choice, or of a -source, everywhere or at a -site, -provider or -domain
resume   ends suspensions: by -order, by the same choice, or -all
rebind   moves what waits and what is held to another pool, -to
orders   lists the suspensions in force
top      shows sites, or pools with -by pool, and how fast mail comes and goes, again each
         second: q quits, s and S sort, tab changes between sites and pools. With -once,
         -n, -json or without a terminal it prints

A site is the destinations that share a set of MX hosts; suspend, resume and rebind take
a domain for it too, and suspend says who shares it. Suspensions survive a restart.
Each act stands in the ledger with who did it and why. What is released passes the
relay guard again. Exit status 1: nothing was chosen.`

const shapingHelp = `explain  tells of a domain, an address or a provider: who it belongs to, which limits and
         rules bind it and where they are said, the day of a warm-up, what is in force.
         With -config FILE by that configuration and, where its node runs, as of now;
         without, by the rules that come with the program
ls       lists what is in force, with its end (-all: and what was, for a week)
undo     ends an action: postern shaping undo ID FILE. What operators suspend, postern
         queue suspend does, and queue orders lists
test     reads replies, one a line ("421 4.7.28 ..." or "gmail 421 4.7.28 ..."), from a
         file or - and says which rule each sets off
rules    prints the rules that come with the program

Each act stands in the ledger with who did it and why. Exit status 1: no such action, or
a reply that sets no rule off.`

const incidentHelp = `ls        lists open incidents (-all: every one)
show      prints one with its timeline
contain   holds what takes its path, at once and until it is released
release   ends the containment; what it and the guard hold stays held, goes on (-mail)
          or is discarded (-drop)
repaired  notes that the policy has been repaired
close     closes it, once it holds nothing
advisory  writes the document: systems affected, overview, diagnosis, impact, solution`
