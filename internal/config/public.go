package config

import (
	"fmt"
	"slices"
)

// publicMailboxes lists domains at which anybody can open a mailbox, and whose signature
// therefore says nothing about who wrote: of the providers' own pages on the names that
// they offer (outlook.com, mail.yahoo.com, aol.com, gmail.com, icloud.com, gmx.net, web.de,
// mail.ru, yandex.com, zoho.com, proton.me, fastmail.com, comcast.net, libero.it, qq.com,
// 163.com; looked at in November 2026). It is for a warning: a name that is missing costs a warning.
func publicMailboxes() []string {
	return []string{"outlook.com", "hotmail.com", "hotmail.co.uk", "hotmail.fr", "live.com", "msn.com", "yahoo.com", "yahoo.co.uk", "yahoo.co.jp", "yahoo.fr", "ymail.com",
		"rocketmail.com", "aol.com", "aim.com", "gmail.com", "googlemail.com", "icloud.com", "me.com", "mac.com", "gmx.net", "gmx.de", "gmx.com", "web.de", "mail.com",
		"mail.ru", "bk.ru", "list.ru", "inbox.ru", "yandex.ru", "yandex.com", "ya.ru", "zoho.com", "zohomail.com", "proton.me", "protonmail.com", "pm.me",
		"fastmail.com", "fastmail.fm", "comcast.net", "libero.it", "virgilio.it", "qq.com", "foxmail.com", "163.com", "126.com", "sina.com", "naver.com"}
}

// providers warns of complaints that would be believed from anybody with a mailbox at
// the provider.
func (l *loader) providers() {
	public := publicMailboxes()
	for i := range l.cfg.Providers {
		p := &l.cfg.Providers[i]
		for _, d := range p.Domains {
			if slices.Contains(public, d) {
				l.warn(l.names["provider "+p.Name], fmt.Sprintf("provider %q: anybody can have a mailbox at %s, and could forge a complaint that is believed", p.Name, d), "name the domain that signs its reports, or the networks that send them")
			}
		}
	}
}
