// Package xarf reads and writes reports of the eXtended Abuse Reporting Format, versions
// 3 and 4 (xarf.org): JSON about abuse of any kind, of which reports on mail are one.
// It is pure.
package xarf
