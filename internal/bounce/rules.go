package bounce

// rule says what a reply is about in which its phrases occur.
type rule struct {
	is    Category
	when  string // phrases joined by " & "; each matches where words begin with it, "$" ends a word
	vague bool   // a status code that says something goes before it
	class byte   // '4' or '5': of such replies only
	from  string // of this provider only
	code  string // of replies with this subject and detail only, "4.1"
	bare  bool   // only where no receiver has replied: the words are those of the host that reports
}

// rules lists them, the ones that go before the others first. What is about the mail as
// a whole (who sends it, how much, what stands in it) goes before what is about the
// recipient, since many a refusal for a bad name is worded around "recipient rejected".
func rules() []rule {
	var out []rule
	for _, part := range [][]rule{ours(), precise(), sending(), senders(), messages(), recipients(), transport(), vague()} {
		out = append(out, part...)
	}
	return out
}

// all makes a rule of each phrase.
func all(is Category, when ...string) []rule {
	out := make([]rule, len(when))
	for i := range when {
		out[i] = rule{is: is, when: when[i]}
	}
	return out
}

func join(parts ...[]rule) []rule {
	var out []rule
	for _, p := range parts {
		out = append(out, p...)
	}
	return out
}

// permanent limits rules to 5xx replies, transient to 4xx, by to a provider's.
func permanent(rs []rule) []rule { return limited(rs, '5', "") }

func transient(rs []rule) []rule { return limited(rs, '4', "") }

func by(provider string, rs []rule) []rule { return limited(rs, 0, provider) }

func limited(rs []rule, class byte, from string) []rule {
	for i := range rs {
		rs[i].class, rs[i].from = class, from
	}
	return rs
}

// ours are the causes that the queue itself words.
func ours() []rule {
	return join(
		all(Expired, "given up after", "message expired", "could not be delivered for & days", "queue expired"),
		all(Suppressed, "suppression list", "on your suppression", "suppressed address", "recipient suppressed", "previously bounced", "is on the bounce list"),
		all(BadDomain, "account or domain may not exist", "indicated no smtp service", "no mx found for domain", "all relevant mx records point to non existent"),
		all(Policy, "permission to post", "groups google com support", "not a member of this mailing list", "not member article", "due to recipient preferences"),
		all(MailboxFull, "number of messages in recipient", "exceeded the local limit"),
		all(RemoteSystem, "insufficient permission", "local delivery failed"),
		all(BadDomain, "takes no mail null mx", "null mx", "nullmx", "no such domain", "dns domain & does not exist"),
		all(Routing, "host not found try again"),
		all(BadDomain, "host or domain name not found"),
		all(Routing, "name service error"),
		all(Protocol, "helo command rejected", "ehlo command rejected"),
		all(Connection, "timed out while sending", "timed out while receiving", "lost connection"),
		all(NoAnswer, "no route to host"),
		all(RemoteSystem, "insufficient system storage"),
		all(InvalidSender, "sender address rejected", "sender verif", "verify sender", "verify the sender"),
		all(BadMailbox, "user unknown", "addressee unknown", "no such user", "user does not exist", "user doesn t exist"),
		[]rule{{is: BadMailbox, when: "recipient address rejected access denied", code: "4.1", class: '5'}},
	)
}

// precise are phrases of several words that say more than the words in them, which other
// rules would take otherwise.
func precise() []rule {
	return join(
		all(Blocklisted, "bad sender ip", "invalid ip for sending", "sender ip address", "no access from mail server", "not currently accepting mail from your ip", "listed as abusive", "zombied spam ips", "spams from your ip",
			"currently sending spam see", "you are sending spam", "smtp server of your isp", "go away$"),
		all(Authentication, "mismatches client ip", "cannot resolve your address", "unverifyable sending ips", "unresolvable relay host", "confirm this mail server", "server requires confirmation", "authentication credentials", "authentication failure", "authentication turned on", "verification failure$"),
		all(InvalidSender, "badsendermx", "sendernoa", "expired email address & backscatter", "backscatter protection", "emetteur invalide", "émetteur invalide", "fully qualified email address", "outgoing mail suspension", "not a registered gateway user", "unroutable sender", "unrouteable sender"),
		all(MailboxFull, "exceeding receiving limits", "destinataire pleine", "mail file size exceeds & mail delivery", "mailbox would exceed", "space has been used up", "too much mail data", "too many messages on the server"),
		all(RateLimited, "max emails per hour", "daily message quota", "maximum sending rate", "too many errors from your ip", "too many smtp sessions", "trop de connexions", "numerous attempts to deliver this message"),
		all(Policy, "non member to a members only", "closed mailing list", "not subscribed to this group", "without solving a captcha", "message given low priority", "messages with multiple addresses", "blocked by the recipient"),
		all(InactiveMailbox, "recipient suspend the service", "not an active address"),
		all(Spam, "blacklisted url", "no spam please", "blocked by spamassassin", "unacceptable content", "bulk advertising", "banned content", "recurrent pattern detection", "mass mailer", "antispam checks"),
		all(Relaying, "as a relay", "non local e mail address", "allowed to relay", "configured to relay"),
		all(Routing, "duplicated message id", "loop back warning", "detected a loop condition", "dns records for the destination computer", "forwarding loop", "name server reply", "unable to resolve route"),
		all(RemoteSystem, "interrupted system call", "encountered an error while being processed", "loop was found in the mail exchanger", "no mdb$", "system config error", "loop broken"),
		all(BadDomain, "domain must exist", "name or service not known"),
		all(Expired, "could not find a gateway for", "failed to deliver to domain & tries", "has not been collected after", "within the allowed queue period"),
		all(NoAnswer, "server did not respond"),
		all(Connection, "dropped by remote host"),
		[]rule{{is: BadDomain, when: "unrouteable address", bare: true}, {is: BadDomain, when: "all host address lookups failed", bare: true}},
		all(Content, "improperly formatted", "unnecessary base64"),
		all(BadMailbox, "can t accept user", "mailbox not present", "in name directory", "no matches to nameserver query", "not a local address", "not email addresses", "badrcptto", "no one at this address", "missing home directory"),
	)
}

// sending is about who sends, and how much.
func sending() []rule {
	return join(
		all(Greylisted, "greylist", "graylist", "grey list", "gray list", "postgrey", "you are being gre", "come back later", "please come back in"),
		all(Blocklisted, "low reputation", "poor reputation", "bad reputation", "ip reputation", "poor standing", "dynamic ip", "this ip has been temporarily", "this ip has been blocked", "block for spam", "blocked for spam", "access denied banned"),
		all(Relaying, "client was not authenticated", "must be authenticated", "proper authentication required"),
		transient(all(RateLimited, "unusual rate of mail originating from your dkim", "unusual rate of mail originating from your spf")),
		all(Authentication, "dmarc", "spf$", "dkim$", "domainkeys", "sender policy framework", "unauthenticated", "authentication checks", "authentication information", "authentication policy",
			"purported responsible", "sender id$", "ptr record", "ptr$", "rdns", "reverse dns", "reverse lookup", "reverse hostname", "reverse address", "reverse mapping", "reverse record", "no reverse", "no hostname",
			"cannot find your hostname", "find your hostname", "cannot find your reverse", "forward confirmed", "does not resolve to your ip", "hostname does not match", "generic hostname", "dynamic hostname",
			"arc$", "anti spoofing", "spoofed", "spoofing", "not authenticated", "fails to authenticate", "fix reverse", "dns check failure", "sender must authenticate", "unable to verify that your email"),
		all(TLS, "not support tls", "tls required", "must issue a starttls", "starttls", "tls negotiation", "tls handshake", "tls connection", "encryption required", "requires encryption",
			"encryption needed", "require tls", "requires tls", "certificate", "dane validation", "tlsa", "mta sts", "tls is required", "tls policy", "use tls"),
		all(RateLimited, "too many connections", "too many concurrent", "too many simultaneous", "too many sessions", "too many open", "concurrent connection",
			"connection limit", "connection rate", "connections from your", "maximum number of connections", "exceeded max sessions", "rate limit", "ratelimit",
			"rate is limited", "throttl", "receiving mail too quickly", "receiving mail at a rate", "receiving email at a rate", "too many messages", "too many emails",
			"too many mails", "too much mail", "too many rcpt", "too many recipients", "too many tries", "too fast", "too quickly", "too frequent", "frequency limit",
			"frequency limited", "exceeded the rate", "exceeds the rate", "sending limit", "exceeded sending", "daily limit", "hourly limit", "message threshold exceeded",
			"max number of messages per", "maximum number of messages", "messages per connection", "exceeding the limit of", "max rcpts", "peak smtp relay limit",
			"daily smtp relay", "relay quota", "try again later closing connection", "unexpected volume", "ts01$", "ts02$", "ts03$", "tss01$", "tss02$", "tss03$", "tss04$", "tss05$", "tss06$",
			"thread limit", "recipient rate", "outgoing mail limit", "max message per connection", "rl0000", "hl icc$", "hl ifc$", "sent too many", "mail flood", "excessive volume", "limit on the number of", "reached its limit for"),
		by("microsoft", all(RateLimited, "server busy")),
		transient(all(RateLimited, "unusual rate", "temporarily rate limited", "temporarily deferred due to", "deferred due to user complaints", "has been temporarily rate",
			"try again later & reputation", "mail temporarily deferred", "policy related issues & try")),
	)
}

// senders is about the name of a source, and the reverse-path.
func senders() []rule {
	return join(
		all(Blocklisted, "spamhaus", "spamcop", "sorbs", "barracudacentral", "uceprotect", "senderscore", "senderbase", "talosintelligence", "mailspike", "invaluement", "cloudmark", "proofpoint com",
			"ipcheck proofpoint", "abuseat", "psbl", "backscatterer", "dnswl", "rbl$", "rbls$", "bl000", "es0000", "dnsbl", "dns based blocklist", "realtime block", "real time block", "realtime black", "blackhole", "black hole",
			"blacklist", "black list", "blocklist", "block list", "blacklisted", "denylist", "poor reputation", "bad reputation", "low reputation", "ip reputation", "reputation", "banned sending ip",
			"banned ip", "your ip is", "your ip address is", "your ip address has been", "your ip has been", "ip address blocked", "ip blocked", "ip is blocked", "ip has been blocked", "ip has been temporarily blocked", "this ip has been",
			"ip address has been blocked", "address ip source bloquee", "adresse ip source bloquee", "blocked for spam", "blocked for abuse", "spamming issues", "spamming", "spammer", "client host blocked", "service unavailable client host", "client host & blocked", "host is blocked", "host blocked", "blocked using", "blocked by",
			"listed at$", "listed in & bl", "listed on & spam", "bl$", "s3140$", "s3150$", "network is on our", "weren t sent & block", "messages from & weren t sent", "ot au", "hvu", "rly", "dyn$ & t1", "cxbl", "ipbl", "cdrbl", "user complaints", "temporarily blocked", "is hangup", "mail from & refused & abuse", "sender has been blocked", "access from ip address",
			"your network", "dialup", "dial up", "dynamic ip", "residential", "unassigned", "bogon", "as a source of"),
		permanent(all(Blocklisted, "unusual rate of unsolicited", "unusual rate of mail", "service refuse veuillez")),
		transient(all(RemoteSystem, "service refuse veuillez & 505$")),
		all(InvalidSender, "sender address rejected", "sender address & not exist", "sender address & does not", "domain of sender", "sender domain", "sender s domain", "sender rejected", "sender is rejected", "sender refused", "sender denied", "sender blocked", "sender verif", "verify sender", "verify the sender",
			"sender unknown", "unknown sender", "sender not", "sender must", "sender could not be verified", "invalid sender", "bad sender", "envelope sender", "mail from domain", "mail from address", "mail from & invalid", "envelope from", "invalid return path", "return path", "null sender",
			"from address", "from domain", "requires valid sender", "valid sender domain", "sender s mail address", "fake sender", "unresolvable sender", "sending domain", "sender email", "sender s email", "sender s system", "address of the sender", "does not like sender", "not owned by user", "user in blacklist", "blocked sender", "banned sender", "sender invalid", "invalid mail from"),
	)
}

// messages is about what stands in the message.
func messages() []rule {
	return join(
		all(InactiveMailbox, "out of storage space and inactive"),
		all(TooLarge, "number of attachments", "too many attachments"),
		all(Policy, "accepted for policy reasons"),
		all(MailboxFull, "mailbox size limit", "mailbox has exceeded", "mailbox exceeds", "mailbox exceeded", "mailbox full", "mailbox is full", "mailbox s full", "mailbox quota", "inbox is full", "inbox full", "is full", "user full", "account full", "storage full",
			"out of storage", "storage limit", "storage allocation", "storage quota", "over quota", "overquota", "quota exceed", "quota full", "quota has been", "exceeded quota", "exceeds quota", "exceeded & quota", "exceeds & quota", "quota is exceeded", "disk quota", "diskspace quota", "quota violation", "overdrawn", "quota",
			"not enough space", "enough space", "enough disk space", "enough storage", "not enough storage", "exceeds its limit", "full mailbox", "boite pleine", "bo\u00eete pleine", "casella piena", "casella & piena", "buz\u00f3n lleno", "buzon lleno", "caixa cheia", "caixa postal cheia", "postfach voll", "postfach ist voll", "speicherplatz", "mailfolder is full", "maildir over", "no space for this user", "has reached its maximum size"),
		all(Spam, "spam or virus", "rejected as spam", "spam", "unsolicited", "junk mail", "junk$", "ube$", "uce$", "bulk mail", "bulk email", "phish", "fraud", "scam", "suspicious", "looks like & bulk", "high probability", "likely suspicious", "objectionable content", "mxguarddog", "hits the", "symantec & bounce", "content filter", "content scan", "url & blocked", "urlbl", "surbl", "uribl", "blocked & url", "domain & url & block", "high risk", "mail content denied", "message content & ube", "dspam", "score & threshold"),
		all(Virus, "virus", "malware", "infected", "trojan", "worm$", "malicious", "dangerous attachment", "harmful", "ransomware", "clamav", "security threat"),
		all(TooLarge, "message too large", "message is too large", "message too big", "message is too big", "message file too big", "message size exceeds", "size exceeds", "size exceeded", "message size", "exceeds size", "exceeds the size", "exceeds & size limit", "exceeds & maximum size", "exceeds maximum", "maximum message", "maximum email size", "email size", "size limit", "too large", "too big", "larger than", "header size", "limit of & bytes", "exceeds the maximum", "exceeded the maximum", "file too large"),
		all(Content, "its content", "content rejected", "message content", "content policy", "content restriction", "content of your", "content examination", "content not", "bad content", "prohibited content", "attachment", "file type", "file extension", "bare lf", "bare line", "bare linefeed", "bare newline", "bare cr$", "rfc 5322", "rfc 2822", "rfc 822", "rfc5322", "rfc2822", "rfc822",
			"not rfc", "rfc compliant", "header", "8 bit data", "8bit", "8 bit$", "malformed", "mime$", "message format", "message encoding", "message body", "lines too long", "line too long", "missing from", "missing date", "message id & missing", "non ascii", "charset", "message cannot be parsed", "too many related", "invalid message", "invalid characters", "format error"),
	)
}

// recipients is about the address.
func recipients() []rule {
	return join(
		all(Relaying, "relay access", "credentials for relay", "relaying denied", "relay denied", "relay not permitted", "relay is not", "relay not allowed", "relay prohibited", "relaying not", "relaying is", "relaying prohibited", "relaying to & prohibited", "relaying mail", "relaying from", "unable to relay", "cannot relay", "do not relay", "don t relay", "not relay", "no relay", "open relay", "mail relay", "relay prohibited by",
			"authentication required", "authentication is required", "authentication needed", "auth required", "must authenticate", "must be authenticated", "smtp auth", "not authenticate", "not a local domain", "isn t in my list of allowed rcpthosts", "rcpthosts", "not a gateway", "third party", "pop before smtp", "check your mail with", "client was not authenticated", "domain is not hosted", "we don t handle mail for", "not hosted here", "no mail service for"),
		all(BadDomain, "domain not found", "domain name not found", "domain does not exist", "domain doesn t exist", "domain is not reachable", "domain not reachable", "unknown domain", "domain unknown", "invalid domain", "host not found", "host unknown", "unknown host", "hostunknown", "host or domain name not found", "nxdomain", "no mx", "no mail exchanger", "no a record", "bad destination host", "bad destination system", "domain & does not accept mail", "doesn t receive email", "does not receive email",
			"domain & does not receive mail", "illegal host", "bad host", "no such host", "domain & expired", "dns & nodata", "unrouteable mail domain", "unroutable mail domain", "mail domain", "recipient domain", "domain is not configured"),
		all(InactiveMailbox, "inactive", "inactivity", "account is disabled", "account disabled", "account has been disabled", "account that you tried to reach is disabled", "account is suspended", "account suspended", "account has been suspended", "account is closed", "account closed", "account has been closed", "account expired", "account has expired", "account is expired", "account locked", "account is locked", "account has been locked", "account terminated", "account has been terminated",
			"account is unavailable", "account is not active", "account not active", "account not activated", "account has been deactivated", "mailbox disabled", "mailbox is disabled", "mailbox has been disabled", "mailbox temporarily disabled", "mailbox is inactive", "mailbox is frozen", "mailbox frozen", "mailbox is locked", "mailbox locked", "mailbox is blocked", "mailbox blocked", "mailbox suspended", "mailbox is suspended", "mailbox expired", "mailbox has expired", "mailbox deactivated", "is frozen", "deactivated", "disactivated", "user disabled", "user is disabled", "user suspended", "user is suspended", "user hangup", "user is not active", "user not active", "user inactive", "user has been suspended", "user locked",
			"is now disabled", "is disabled", "are disabled", "disabled or discontinued", "discontinued", "suspended", "not activated", "no longer active", "not active", "no longer in use", "no longer accepts", "no longer accept", "no longer receiving", "not accepting messages", "not accepting mail", "not accepting email", "doesn t accept mail", "not receiving mail", "terminated", "dormant", "abandoned", "disattivata", "d\u00e9sactiv", "deaktiviert", "gesperrt", "recipient is disabled", "recipient disabled", "address is disabled", "temporarily disabled", "has been disabled", "email address is locked", "extended inactivity", "account is blocked", "blocked for & month", "user is blocked", "mailbox unavailable or access denied & inactive"),
		unknown(),
	)
}

// unknown says in how many words that there is no such mailbox.
func unknown() []rule {
	return join(
		all(BadMailbox, "user unknown", "unknown user", "unknown or illegal", "unknown recipient", "recipient unknown", "unknown address", "address unknown", "addressee unknown", "unknown mailbox", "mailbox unknown", "unknown account", "account unknown", "unknown local", "unknown alias", "unknown email", "unknown mail address", "unknown virtual", "unknown in virtual", "unknown in local", "unknown in relay", "is unknown", "username unknown", "recipient is unknown",
			"no such user", "no such recipient", "no such mailbox", "no such person", "no such address", "no such email", "no such account", "no such local", "no such mail", "no such id", "no such name", "no such contact", "nosuchuser", "does not exist", "doesn t exist", "does not exists", "doesnt exist", "do not exist", "not exist", "no exist", "nonexist", "non exist", "don t exist", "didn t exist", "existiert nicht", "n existe pas", "no existe", "n\u00e3o existe", "nao existe", "non esiste", "inesistente", "nie istnieje", "niet bekend", "bestaat niet", "finns inte",
			"user not found", "mailbox not found", "recipient not found", "account not found", "address not found", "not found by smtp address lookup", "recipnotfound", "recipientnotfound", "mailbox & not found", "user & not found", "recipient & not found", "address & not found", "email address was not found", "couldn t be found", "could not be found", "cannot be found", "wasn t found", "was not found",
			"no mailbox", "no mail box", "no user", "no account by", "no account with", "no account", "no one with", "no valid recipient", "no valid rcpt", "no recipients", "invalid recipient", "invalid mailbox", "invalid user", "invalid address", "invalid email", "invalid account", "invalid or unknown", "invalid local", "recipient invalid", "address invalid", "address is invalid", "user invalid", "mailbox invalid", "mailbox is invalid", "recipient is invalid", "destinataire invalide", "adresse destinataire", "destinataire inconnu", "destinatario sconosciuto", "destinatario errato", "sconosciuto", "usuario desconocido", "usu\u00e1rio desconhecido", "destinatario desconocido", "unbekannt", "empf\u00e4nger unbekannt", "ung\u00fcltige", "ok\u00e4nd", "nie ma takiego", "inconnu",
			"bad destination mailbox", "bad address", "bad recipient", "bad mailbox", "bad user", "wrong recipient", "wrong address", "illegal alias", "illegal user", "illegal recipient", "undeliverable address", "unrouteable address", "unroutable address", "not a valid mailbox", "not a valid user", "not a valid recipient", "not a valid email", "not a valid address", "not valid & recipient", "not a known user", "not a registered", "not a member of domain", "not a user", "not known", "not our customer", "not our user", "not listed in", "not on our system", "not registered", "not in our", "not unique", "not ok",
			"not have an account", "doesn t have a & account", "doesn t have an account", "does not have a & account", "don t have an account", "does not have a mailbox", "doesn t like recipient", "does not like recipient", "has no mailbox", "have a mailbox here", "user doesn t have", "no longer on server", "no longer at this", "no longer available", "no longer valid", "no longer exist", "no longer with", "no longer employed", "has left", "has moved", "moved to", "user not local", "lookup in domain map failed", "lookup & failed & recipient", "recipient verification", "verification failed", "verification unavailable", "recipient cannot be verified", "cannot be verified", "callout & failed", "user path no exist", "recipient rejected", "rcpt is rejected", "user rejected", "mailbox name not allowed", "address error", "address does not", "that user is not", "this user is not", "local user only", "mail address is not", "removed", "was deleted", "has been deleted", "is deleted", "user deleted", "account deleted", "mailbox deleted", "address deleted", "deleted user", "deleted account", "deleted mailbox"),
		by("microsoft", permanent(all(BadMailbox, "mailbox unavailable", "recipient address rejected & access denied"))),
		by("google", permanent(all(BadMailbox, "email account that you tried to reach"))),
		by("yahoo", permanent(all(InactiveMailbox, "mailbox for this address", "mailbox is currently unavailable", "delivery & not & disabled"))),
		permanent(all(BadMailbox, "delivery to the following recipient & permanently & unknown")),
	)
}

// transport is about connections and the systems behind them.
func transport() []rule {
	return join(
		all(Expired, "message expired", "queue expired", "delivery expired", "expired", "retry timeout", "delivery timeout", "in the queue too long", "in queue too long", "too long in the queue", "retry time not reached", "could not be delivered for more than", "delivery time expired", "cannot be delivered within", "message is too old", "not going to try again"),
		all(Routing, "too many hops", "hop count", "maximum hop", "exceeded & hops", "too many received", "mail loop", "mail is looping", "looping", "loops back", "routing loop", "loop detected", "in a loop", "name service error", "name server", "nameserver", "dns error", "dns lookup", "dns query", "dns failure", "dns problem", "dns temp", "temporary dns", "servfail", "lookup failure", "temporary lookup", "mx lookup", "mx record", "mx pref", "no route", "unroutable", "unrouteable", "unable to route", "cannot route", "routing", "next hop"),
		all(Connection, "connection reset", "connection dropped", "connection closed", "connection lost", "lost connection", "connection died", "connection broken", "broken pipe", "closed connection", "closed the connection", "timeout closing", "timeout exceeded", "timeout waiting", "read timeout", "eof$", "unexpected end", "remote host closed", "remote server closed", "ended early", "lost input", "premature"),
		all(NoAnswer, "connection timed out", "operation timed out", "timed out", "i o timeout", "connection refused", "connection attempt", "no answer", "host not reachable", "network error", "not responding", "no response", "unreachable", "did not accept our", "could not connect", "couldn t connect", "cannot connect", "unable to connect", "can t connect", "wasn t able to establish", "no host", "no route to host", "failed to connect", "didn t respond", "host is down", "timeout"),
		all(Protocol, "syntax error", "bad sequence", "out of sequence", "protocol violation", "protocol error", "protocol & violation", "command unrecognized", "command not", "unrecognized command", "unrecognised command", "unknown command", "invalid command", "command parameter", "parameter not implemented", "parameters not", "unsupported", "not implemented", "helo$", "ehlo$", "pipelining", "before greeting", "talks too soon", "synchronization", "too many bad commands", "too many errors", "need rcpt", "need mail", "need recipient", "argument is", "arguments", "nested mail", "improper use", "smtputf8", "8bitmime", "line length"),
		all(RemoteSystem, "no space left", "insufficient system", "system storage", "system resources", "insufficient resource", "out of memory", "disk full", "local error", "local problem", "local configuration", "configuration error", "misconfigur", "internal error", "internal server", "internal resources", "system error", "system problem", "server error", "software error", "mailer error", "lock failure", "cannot open", "could not load", "cannot access", "can t create", "unable to create", "unable to process", "temporarily rejected", "server busy", "system busy", "is busy", "overload", "high load", "load average", "service unavailable try", "service not available", "service is unavailable", "service temporarily", "service currently", "server temporarily", "temporary failure", "temporary system", "temporary problem", "temporary server", "temporary error", "temporarily unavailable", "temporarily unable", "maintenance", "shutting down", "i o error", "milter", "timed & database", "database", "ldap", "backend", "queue file", "write error", "cannot execute", "command died", "no such file", "pipe to", "exit code", "exit status"),
		all(Expired, "message could not be delivered for", "could not deliver for the last", "message will be deleted from queue"),
	)
}

// vague decides only where no status code does.
func vague() []rule {
	out := join(
		all(Policy, "policy", "policies", "policy reasons", "administrative prohibition", "administrator", "restricted", "restriction", "geographical", "not authorized", "not authorised", "not permitted", "permission", "prohibited", "prohibit", "forbidden", "unauthorized", "denied by", "rejected by", "security", "not allowed", "access denied", "access & denied", "denied", "not accept", "blocked", "refused", "refuse", "disallowed", "banned", "violat", "unwelcome", "do not want", "not wanted", "unacceptable", "whitelist", "allowlist", "allow list", "local rules", "rules", "a id 80870", "error codes"),
		permanent(all(BadMailbox, "mailbox unavailable", "mailbox not available", "recipient address rejected", "address rejected", "recipient refused", "user unavailable", "account unavailable", "unavailable", "unknown", "not found", "undeliverable", "no such", "delivery error", "invalid", "recipient")),
		transient(all(RemoteSystem, "try again later", "try later", "please try", "please retry", "mailbox unavailable", "unavailable", "deferred", "temporar", "recipient address rejected")),
		all(Policy, "rejected", "reject", "bounced by", "message not", "transaction failed"),
	)
	for i := range out {
		out[i].vague = true
	}
	return out
}
