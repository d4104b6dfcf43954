package journal

import (
	"fmt"
	"os"
	"time"
)

// turnOver begins a new file where one is due: by size, by time, by request, or since
// somebody has moved the file that was found at the start.
func (j *Journal) turnOver() error {
	if len(j.file.tail) > 0 {
		return nil // its lines come first
	}
	if j.file.astray {
		return j.next(false)
	}
	select {
	case <-j.reopen:
		if j.file.moved() {
			return j.next(false)
		}
	default:
	}
	if j.full() {
		return j.next(!j.file.moved())
	}
	return nil
}

// full tells whether the file is large or old enough. One without lines stays.
func (j *Journal) full() bool {
	if j.file.size <= int64(len(j.file.header)) {
		return false
	}
	if j.o.RotateSize > 0 && j.file.size >= j.o.RotateSize {
		return true
	}
	every := j.o.RotateEvery
	return every > 0 && j.o.Now().Truncate(every).After(j.file.began.Truncate(every))
}

// next makes all lines durable, puts the file aside if that is asked for, and begins
// another. The place that is durable at every point leads to the right file.
func (j *Journal) next(aside bool) error {
	j.dirty = true
	if err := j.save(); err != nil {
		return err
	}
	now := j.o.Now()
	name := ""
	if aside {
		var err error
		if name, err = j.file.putAside(now, j.at.Seq); err != nil {
			return fmt.Errorf("rotate %s: %w", j.o.Path, err)
		}
	}
	f, err := create(j.o.Path, j.lines.header(), now)
	if err != nil {
		return fmt.Errorf("begin %s: %w", j.o.Path, err)
	}
	old := j.file
	j.file, j.unmarked = f, true
	if err := old.close(); err != nil {
		j.o.Log.Warn("log file not closed", "name", j.o.Name, "err", err)
	}
	if err := j.mark(); err != nil {
		return err
	}
	j.clear(name, now)
	return nil
}

// clear compresses and removes what was put aside, beside the writing.
func (j *Journal) clear(name string, now time.Time) {
	j.work.Wait() // one at a time
	j.work.Go(func() {
		if j.o.Compress && name != "" {
			if err := compress(name); err != nil && !os.IsNotExist(err) {
				j.o.Log.Warn("log file not compressed", "name", j.o.Name, "path", name, "err", err)
			}
		}
		gone, err := tidy(j.o.Path, j.o.Keep, now)
		if err != nil {
			j.o.Log.Warn("log file not removed", "name", j.o.Name, "err", err)
		}
		if len(gone) > 0 {
			j.o.Log.Info("log files removed", "name", j.o.Name, "files", len(gone))
		}
	})
}
