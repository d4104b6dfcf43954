package queue

import "slices"

// DomainsOf gives the recipient domains that share a site, as far as there is mail for
// them or was of late: at most so many of them, sorted, and how many there are. False
// says that the queue knows no such site.
func (q *Queue) DomainsOf(site string, most int) (names []string, all int, known bool) {
	for from, more := 0, true; more; from += sweeping {
		q.mu.Lock()
		_, known = q.sites[site]
		more = from+sweeping < len(q.domains)
		for _, d := range q.domains[min(from, len(q.domains)):min(from+sweeping, len(q.domains))] {
			if d != nil && d.site != nil && d.site.key == site {
				names = append(names, d.name)
			}
		}
		q.mu.Unlock()
	}
	slices.Sort(names)
	names = slices.Compact(names)
	all = len(names)
	return names[:min(all, most)], all, known
}
