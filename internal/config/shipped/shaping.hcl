# What the large providers are told apart by, what they allow, and what their replies set
# off. These rules are loaded unless the configuration says: shaping { default = false }
#
# A rule or a destination of the same name in your own file goes before; rule "NAME" with
# off = true switches one off. The replies that these rules are tested against stand with
# their sources in internal/config/testdata/replies.txt. Where a provider publishes a
# limit, the page is named; the other numbers are ours, on the careful side.

# --- Who is who ---------------------------------------------------------------------

# Gmail and Google Workspace: one set of hosts, one reputation.
destination "gmail" {
  mx      = [".google.com", ".googlemail.com"]
  domains = ["gmail.com", "googlemail.com"]
  limits {
    connections_per_source  = 10
    messages_per_connection = 100
  }
}

# Yahoo and AOL. Twenty messages a connection is what senders.yahooinc.com/best-practices asks for.
destination "yahoo" {
  mx      = [".yahoodns.net"]
  domains = ["yahoo.com", "ymail.com", "rocketmail.com", "aol.com", "aim.com"]
  limits {
    connections_per_source  = 10
    messages_per_connection = 20
  }
}

# Microsoft's mailboxes for consumers.
destination "outlook" {
  mx      = [".olc.protection.outlook.com"]
  domains = ["outlook.com", "hotmail.com", "live.com", "msn.com"]
  limits {
    connections_per_source  = 10
    messages_per_connection = 50
  }
}

# Microsoft 365: every tenant has hosts and rules of its own, and all of them share what
# they know about a sender's addresses.
destination "microsoft365" {
  mx       = [".mail.protection.outlook.com", ".mx.microsoft"]
  separate = true
  limits {
    connections_per_source  = 5
    messages_per_connection = 50
  }
}

# iCloud Mail: support.apple.com/en-us/102322
destination "apple" {
  mx      = [".mail.icloud.com"]
  domains = ["icloud.com", "me.com", "mac.com"]
  limits {
    connections_per_source  = 5
    messages_per_connection = 20
  }
}

# Comcast counts 25 sessions at once for an address (postmaster.comcast.net/smtp-error-codes.php).
destination "comcast" {
  mx      = [".comcast.net"]
  domains = ["comcast.net"]
  limits {
    connections_per_source  = 20
    messages_per_connection = 100
  }
}

# Orange closes what is more than a few connections from one address
# (postmastery.com/orange-postmaster-smtp-error-codes-ofr/).
destination "orange" {
  mx      = ["smtp-in.orange.fr", ".orange.fr"]
  domains = ["orange.fr", "wanadoo.fr"]
  limits {
    connections_per_source  = 2
    messages_per_connection = 100
  }
}

destination "laposte" {
  mx      = [".laposte.net"]
  domains = ["laposte.net"]
  limits {
    connections_per_source = 2
  }
}

# GMX, WEB.DE and mail.com.
destination "gmx" {
  mx      = [".gmx.net", ".web.de", ".mail.com"]
  domains = ["gmx.de", "gmx.net", "gmx.at", "gmx.ch", "gmx.com", "web.de", "mail.com"]
  limits {
    connections_per_source  = 4
    messages_per_connection = 20
  }
}

destination "qq" {
  mx      = [".qq.com"]
  domains = ["qq.com", "foxmail.com"]
  limits {
    connections_per_source  = 3
    messages_per_connection = 8
  }
}

destination "netease" {
  mx      = [".netease.com"]
  domains = ["163.com", "126.com", "yeah.net"]
  limits {
    connections_per_source  = 3
    messages_per_connection = 7
  }
}

destination "cloudflare" {
  mx = [".mx.cloudflare.net"]
}

# Filters in front of companies' mail: each customer has hosts and rules of its own.
destination "mimecast" {
  mx       = [".mimecast.com", ".mimecast.co.za", ".mimecast-offshore.com"]
  separate = true
  limits {
    connections_per_source  = 10 # 20 for the account: more is answered with 451
    messages_per_connection = 100
  }
}

destination "proofpoint" {
  mx       = [".pphosted.com", ".ppe-hosted.com"]
  separate = true
  limits {
    connections_per_source = 10
  }
}

destination "barracuda" {
  mx       = [".barracudanetworks.com"]
  separate = true
  limits {
    connections_per_source  = 10
    messages_per_connection = 15
  }
}

# --- Gmail --------------------------------------------------------------------------

# Too much unwanted mail of a domain or with a link: whoever's mail it is slows down.
rule "gmail-unwanted-domain" {
  destinations = ["gmail"]
  code         = 421
  text         = "unusual rate of (unsolicited )?mail.*(dkim|spf|url) domain"
  threshold    = "5/10m"
  then         = backoff("15m", "4h", customer)
  category     = "rate-limited"
}

rule "gmail-unwanted" {
  destinations = ["gmail"]
  code         = 421
  text         = "unusual rate of (unsolicited )?mail"
  threshold    = "5/10m"
  then         = backoff("15m", "4h", source)
  category     = "rate-limited"
}

rule "gmail-unwanted-refused" {
  destinations = ["gmail"]
  code         = 550
  text         = "unusual rate of unsolicited mail"
  threshold    = "3/10m"
  then         = suspend("4h", source)
  category     = "blocklisted"
}

rule "gmail-reputation-domain" {
  destinations = ["gmail"]
  text         = "very low reputation of the sending domain"
  threshold    = "5/10m"
  then         = backoff("30m", "8h", customer)
  category     = "blocklisted"
}

rule "gmail-reputation" {
  destinations = ["gmail"]
  text         = "very low reputation of the sending"
  threshold    = "5/10m"
  then         = backoff("30m", "8h", source)
  category     = "blocklisted"
}

# SPF, DKIM or DMARC is broken: more of the same will not be taken either.
rule "gmail-authentication" {
  destinations = ["gmail"]
  enhanced     = ["4.7.23", "4.7.24", "4.7.26", "4.7.27", "4.7.29", "4.7.30", "4.7.32", "5.7.23", "5.7.24", "5.7.26", "5.7.27", "5.7.29", "5.7.30", "5.7.32"]
  threshold    = "20/10m"
  then         = backoff("30m", "4h", customer)
  category     = "authentication"
}

rule "gmail-recipient-busy" {
  destinations = ["gmail"]
  code         = 450
  enhanced     = "4.2.1"
  text         = "receiving mail"
  after        = "30m"
  category     = "rate-limited"
}

rule "gmail-try-later" {
  destinations = ["gmail"]
  code         = 421
  text         = ["try again later", "server busy"]
  threshold    = "5/10m"
  then         = connections(2, "30m", source)
  category     = "remote-system"
}

# --- Yahoo --------------------------------------------------------------------------

# Retrying will not help, the reply says: not from this address, for a day.
rule "yahoo-refused-for-good" {
  destinations = ["yahoo"]
  text         = "permanently deferred"
  then         = [suspend("24h", source), retry()]
  category     = "blocklisted"
}

rule "yahoo-deferred" {
  destinations = ["yahoo"]
  code         = "4xx"
  text         = "\\[(ts|tss|ipts)[0-9]+\\]"
  threshold    = "5/10m"
  then         = backoff("30m", "4h", source)
  category     = "rate-limited"
}

rule "yahoo-blocklist" {
  destinations = ["yahoo"]
  code         = "5xx"
  text         = ["\\[bl[0-9]+\\]", "connections (will )?not (be )?accepted from"]
  then         = [suspend("4h", source), retry()]
  category     = "blocklisted"
}

# The connection has carried what it may: nothing is wrong.
rule "yahoo-connection-used-up" {
  destinations = ["yahoo"]
  code         = 421
  text         = "max message per connection reached"
  category     = "connection"
}

rule "yahoo-authentication" {
  destinations = ["yahoo"]
  text         = ["sender is unauthenticated", "requires all senders to authenticate"]
  threshold    = "20/10m"
  then         = backoff("30m", "4h", customer)
  category     = "authentication"
}

rule "yahoo-policy" {
  destinations = ["yahoo"]
  code         = "5xx"
  text         = ["\\[ph[0-9]+\\]", "not (accepted|allowed).*policy reasons"]
  threshold    = "20/10m"
  then         = suspend("1h", campaign)
  category     = "policy"
}

rule "yahoo-recipient-busy" {
  destinations = ["yahoo"]
  code         = 450
  text         = "receiving mail too quickly"
  after        = "30m"
  category     = "rate-limited"
}

# --- Microsoft ----------------------------------------------------------------------

# On Microsoft's own list: S3140 and S3150 (AS3140 in some replies), SC-001 and others in
# older ones.
rule "outlook-blocklist" {
  destinations = ["outlook", "microsoft365"]
  code         = "5xx"
  text         = ["weren.{1,3}t sent.*network is on our block list", "\\(a?s31[0-9]{2}\\)", "\\b(sc-00[1-4]|dy-00[12]|ou-00[12])\\b"]
  then         = [suspend("4h", source, provider), retry()]
  category     = "blocklisted"
}

rule "outlook-connections" {
  destinations = ["outlook", "microsoft365"]
  text         = ["exceeded the maximum number of connections", "maximum number of concurrent connections", "max concurrent connections"]
  then         = connections(2, "1h", source)
  category     = "rate-limited"
}

# RP-001 to RP-003 in older replies, 4.7.650 and 4.7.651 in newer ones.
rule "outlook-reputation" {
  destinations = ["outlook", "microsoft365"]
  code         = "4xx"
  text         = ["temporarily rate limited due to ip reputation", "\\brp-00[1-3]\\b", "exceeded (the|a) rate limit"]
  threshold    = "5/10m"
  then         = backoff("30m", "4h", source, provider)
  category     = "blocklisted"
}

rule "outlook-banned" {
  destinations = ["outlook", "microsoft365"]
  code         = "5xx"
  text         = "access denied, banned send(er|ing ip)"
  then         = [suspend("24h", source, provider), retry()]
  category     = "blocklisted"
}

# A tenant's own list: nothing that other tenants would do.
rule "outlook-tenant-list" {
  destinations = ["microsoft365"]
  code         = "5xx"
  enhanced     = ["5.7.507", "5.7.513"]
  category     = "policy"
}

rule "outlook-suspicious" {
  destinations = ["outlook", "microsoft365"]
  code         = "4xx"
  text         = "access denied, please try again later"
  threshold    = "3/10m"
  then         = backoff("30m", "4h", source, provider)
  category     = "rate-limited"
}

rule "outlook-busy" {
  destinations = ["outlook", "microsoft365"]
  code         = "4xx"
  text         = ["server busy", "temporary server error", "agent busy"]
  threshold    = "10/10m"
  then         = backoff("10m", "2h", source)
  category     = "remote-system"
}

rule "outlook-authentication" {
  destinations = ["outlook", "microsoft365"]
  enhanced     = ["5.7.23", "5.7.509", "5.7.515", "4.7.26", "5.7.26"]
  threshold    = "20/10m"
  then         = backoff("30m", "4h", customer)
  category     = "authentication"
}

# --- Apple --------------------------------------------------------------------------

rule "apple-volume" {
  destinations = ["apple"]
  code         = "4xx"
  text         = ["excessive volume", "\\[hcm[0-9]\\]"]
  threshold    = "5/10m"
  then         = backoff("15m", "2h", source)
  category     = "rate-limited"
}

rule "apple-blocklist" {
  destinations = ["apple"]
  code         = "5xx"
  text         = ["mail from ip .* (was )?rejected due to listing", "dnsbl-lookup", "ipcheck\\.proofpoint"]
  then         = [suspend("4h", source), retry()]
  category     = "blocklisted"
}

rule "apple-authentication" {
  destinations = ["apple"]
  code         = "5xx"
  text         = ["\\[hme[0-9]\\]", "dmarc policy"]
  threshold    = "20/10m"
  then         = backoff("30m", "4h", customer)
  category     = "authentication"
}

rule "apple-policy" {
  destinations = ["apple"]
  code         = "5xx"
  text         = ["\\[(cs|hm)[0-9]+\\]", "rejected due to local policy", "spamhaus dbl"]
  threshold    = "20/10m"
  then         = suspend("1h", campaign)
  category     = "policy"
}

rule "apple-busy" {
  destinations = ["apple"]
  code         = "4xx"
  text         = ["\\[bs[0-9]+\\]", "service unavailable"]
  threshold    = "10/10m"
  then         = backoff("10m", "1h", source)
  category     = "remote-system"
}

# --- Comcast ------------------------------------------------------------------------

rule "comcast-rate" {
  destinations = ["comcast"]
  text         = "\\brl[0-9]{6}\\b"
  threshold    = "2/1h"
  then         = backoff("15m", "2h", source)
  category     = "rate-limited"
}

rule "comcast-connections" {
  destinations = ["comcast"]
  code         = "4xx"
  text         = "too many sessions"
  then         = connections(10, "1h", source)
  category     = "rate-limited"
}

rule "comcast-blocklist" {
  destinations = ["comcast"]
  code         = "5xx"
  text         = "\\b(bl|es)[0-9]{6}\\b"
  then         = [suspend("4h", source), retry()]
  category     = "blocklisted"
}

# --- Orange and La Poste ------------------------------------------------------------

# The last three digits of OFR and LPN codes tell what happened.
rule "orange-connections" {
  destinations = ["orange", "laposte"]
  code         = "4xx"
  text         = ["(ofr|lpn)[0-9]*[_-]104", "trop de connexions"]
  then         = connections(1, "1h", source)
  category     = "rate-limited"
}

rule "orange-blocklist" {
  destinations = ["orange", "laposte"]
  code         = "5xx"
  text         = ["(ofr|lpn|lpnaaa)[0-9]*[_-]10[123]\\b", "bloquee pour incident de spam"]
  then         = [suspend("4h", source), retry()]
  category     = "blocklisted"
}

rule "orange-later" {
  destinations = ["orange", "laposte"]
  code         = "4xx"
  text         = ["service refuse", "veuillez essayer plus tard"]
  threshold    = "3/10m"
  then         = backoff("30m", "4h", source)
  category     = "rate-limited"
}

# --- GMX, WEB.DE, mail.com ----------------------------------------------------------

rule "gmx-blocklist" {
  destinations = ["gmx"]
  code         = "5xx"
  text         = "ip address is (block|black) ?listed"
  then         = [suspend("4h", source), retry()]
  category     = "blocklisted"
}

rule "gmx-connections" {
  destinations = ["gmx"]
  code         = "4xx"
  text         = "too many connections"
  then         = connections(1, "30m", source)
  category     = "rate-limited"
}

rule "gmx-rate" {
  destinations = ["gmx"]
  code         = "4xx"
  text         = "rate limit reached"
  threshold    = "2/10m"
  then         = backoff("1h", "4h", source)
  category     = "rate-limited"
}

# Too many addresses that do not exist, or a name in EHLO that changes.
rule "gmx-policy" {
  destinations = ["gmx"]
  code         = "4xx"
  text         = "reject due to policy (violations|restrictions)"
  threshold    = "5/1h"
  then         = backoff("1h", "8h", source)
  category     = "rate-limited"
}

# --- Elsewhere ----------------------------------------------------------------------

# A 550 that means "later": Tencent counts by the minute, hour and day.
rule "qq-rate" {
  destinations = ["qq"]
  text         = "(ip|connection) frequency limited"
  threshold    = "3/10m"
  then         = [backoff("30m", "8h", source), retry()]
  after        = "30m"
  category     = "rate-limited"
}

rule "qq-rate-sender" {
  destinations = ["qq"]
  text         = "(sender|domain) frequency limited"
  threshold    = "3/10m"
  then         = [backoff("30m", "8h", customer), retry()]
  after        = "30m"
  category     = "rate-limited"
}

rule "netease-rate" {
  destinations = ["netease"]
  code         = "4xx"
  text         = "hl:(ifc|rep|mep)"
  then         = backoff("30m", "8h", source)
  category     = "rate-limited"
}

rule "netease-connections" {
  destinations = ["netease"]
  code         = "4xx"
  text         = "hl:icc"
  then         = connections(1, "1h", source)
  category     = "rate-limited"
}

rule "cloudflare-blocklist" {
  destinations = ["cloudflare"]
  code         = "5xx"
  text         = "found on one or more (rbls|dnsbls)"
  then         = [suspend("4h", source), retry()]
  category     = "blocklisted"
}

# Mimecast's grey-listing wants a second try after a minute and within twelve hours.
rule "mimecast-greylist" {
  destinations = ["mimecast"]
  code         = 451
  text         = "internal resources? (are )?temporarily unavailable"
  after        = "5m"
  category     = "greylisted"
}

rule "mimecast-connections" {
  destinations = ["mimecast"]
  code         = 451
  text         = "account service is temporarily unavailable"
  then         = connections(2, "30m", source)
  category     = "rate-limited"
}

rule "mimecast-list" {
  destinations = ["mimecast"]
  code         = 451
  text         = "ip temporarily blacklisted"
  then         = backoff("10m", "2h", source, provider)
  category     = "blocklisted"
}

rule "mimecast-reputation" {
  destinations = ["mimecast"]
  code         = 550
  text         = "ip reputation"
  threshold    = "3/1h"
  then         = suspend("4h", source)
  category     = "blocklisted"
}

# Any site may ask Proofpoint or Barracuda; only at their own hosts is it everybody's word.
rule "proofpoint-blocklist" {
  destinations = ["proofpoint"]
  code         = "5xx"
  text         = ["ipcheck\\.proofpoint", "dnsbl-lookup", "blocked - see"]
  then         = [suspend("4h", source, provider), retry()]
  category     = "blocklisted"
}

rule "barracuda-blocklist" {
  destinations = ["barracuda"]
  code         = "5xx"
  text         = "barracuda ?(central|networks|reputation)"
  then         = [suspend("4h", source, provider), retry()]
  category     = "blocklisted"
}

# --- Everywhere ---------------------------------------------------------------------

# Addresses that do not exist need no rule: whether a refusal is about the address, and
# puts it on the customer's suppression list, is judged from its words.

rule "mailbox-full" {
  code     = ["452", "552", "422"]
  enhanced = ["4.2.2", "5.2.2"]
  after    = "4h"
  category = "mailbox-full"
}

rule "greylist" {
  code     = "4xx"
  text     = ["gr[ae]y-? ?list", "postgrey"]
  after    = "5m"
  category = "greylisted"
}

rule "too-many-connections" {
  code     = "4xx"
  text     = ["too many (concurrent |simultaneous |open )?(smtp )?(connections|sessions)", "connection limit (exceeded|reached)"]
  then     = connections(2, "30m", source)
  category = "rate-limited"
}

# The connection has carried what it may, says the receiver: a new one will do.
rule "connection-used-up" {
  code     = "4xx"
  text     = "too many (messages|mails|transactions) (on|in|for|per)? ?(this|one|a|the|each)? ?(smtp )?(connection|session)"
  category = "connection"
}

# A public blocklist: this address is not wanted at this site for a while. The message
# itself goes the way of its reply.
rule "blocklist" {
  code      = "5xx"
  text      = ["blocked (using|by) .*(spamhaus|spamcop|barracuda|sorbs|dnsbl|rbl|blocklist|blacklist)", "listed (in|at|on|by) .*(spamhaus|spamcop|barracuda|sorbs|dnsbl|rbl)"]
  threshold = "3/10m"
  then      = suspend("1h", source)
  category  = "blocklisted"
}

rule "slow-down" {
  code      = "4xx"
  text      = ["rate limit", "too (fast|quickly|many messages|many emails|much mail)", "temporarily (deferred|rate limited|throttled)", "slow down", "throttl"]
  threshold = "5/10m"
  then      = backoff("10m", "2h", source)
  category  = "rate-limited"
}

# A host that turns everybody away at the door.
rule "not-now" {
  code      = "4xx"
  stage     = ["connect", "helo"]
  threshold = "10/10m"
  then      = backoff("5m", "1h", mx)
  category  = "remote-system"
}

rule "broken-tls" {
  code      = "none"
  stage     = "tls"
  threshold = "5/10m"
  then      = backoff("10m", "1h", mx)
  category  = "tls"
}

# A host that does not answer: the others of the site are tried without it.
rule "no-answer" {
  code      = "none"
  stage     = "connect"
  threshold = "5/10m"
  then      = backoff("5m", "1h", mx)
  category  = "no-answer"
}
