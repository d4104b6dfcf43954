package journal

import (
	"compress/gzip"
	"errors"
	"io"
	"os"
	"time"
)

// Keep bounds what is put aside. Zero is no bound.
type Keep struct {
	Age    time.Duration
	Octets int64 // of all files put aside together
}

// tidy removes what is too old or too much, the oldest first, and gives the names.
func tidy(path string, k Keep, now time.Time) (gone []string, err error) {
	names := rotated(path)
	sizes := make([]int64, len(names))
	var sum int64
	for i, n := range names {
		if st, err := os.Stat(n); err == nil {
			sizes[i] = st.Size()
			sum += st.Size()
		}
	}
	for i, n := range names {
		t, ok := rotatedAt(path, n)
		old := ok && k.Age > 0 && now.Sub(t) > k.Age
		if !old && (k.Octets == 0 || sum <= k.Octets) {
			break
		}
		if e := os.Remove(n); e != nil {
			err = errors.Join(err, e)
			continue
		}
		sum -= sizes[i]
		gone = append(gone, n)
	}
	return gone, err
}

// compress replaces a file that was put aside by its gzip. A crash leaves the file, a
// part that the next one overwrites, or both the file and its whole gzip.
func compress(name string) error {
	in, err := os.Open(name)
	if err != nil {
		return err
	}
	defer in.Close()
	part := name + ".gz.part"
	out, err := os.OpenFile(part, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, fileMode)
	if err != nil {
		return err
	}
	z := gzip.NewWriter(out)
	_, err = io.Copy(z, in)
	if err = errors.Join(err, z.Close(), out.Sync(), out.Close()); err == nil {
		err = os.Rename(part, name+".gz")
	}
	if err != nil {
		return errors.Join(err, os.Remove(part))
	}
	return os.Remove(name)
}
