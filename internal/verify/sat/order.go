package sat

// order is a heap of variables, the most active first (VSIDS of Chaff, with the
// exponential weights of MiniSat).
type order struct {
	activity []float64 // by variable
	weight   float64   // of the next conflict
	heap     []uint32
	place    []int32 // by variable: in the heap, or -1
}

const (
	decay      = 1 / 0.95
	activeMost = 1e100
)

func (o *order) reset() {
	o.weight, o.heap = 1, o.heap[:0]
	o.activity, o.place = append(o.activity[:0], 0), append(o.place[:0], -1)
}

// grow enters the next variable.
func (o *order) grow() {
	v := uint32(len(o.activity))
	o.activity, o.place = append(o.activity, 0), append(o.place, int32(len(o.heap)))
	o.heap = append(o.heap, v) // no parent is less active than zero
}

// bump makes v more active.
func (o *order) bump(v uint32) {
	o.activity[v] += o.weight
	if o.activity[v] > activeMost {
		for i := range o.activity {
			o.activity[i] /= activeMost
		}
		o.weight /= activeMost
	}
	if i := o.place[v]; i >= 0 {
		o.up(int(i))
	}
}

// insert enters v unless it is there.
func (o *order) insert(v uint32) {
	if o.place[v] >= 0 {
		return
	}
	o.place[v] = int32(len(o.heap))
	o.heap = append(o.heap, v)
	o.up(len(o.heap) - 1)
}

// pop takes the most active variable out.
func (o *order) pop() uint32 {
	v, last := o.heap[0], len(o.heap)-1
	o.heap[0] = o.heap[last]
	o.place[o.heap[0]] = 0
	o.heap = o.heap[:last]
	o.place[v] = -1
	if last > 1 {
		o.down(0)
	}
	return v
}

func (o *order) up(i int) {
	v := o.heap[i]
	for i > 0 {
		parent := (i - 1) / 2
		if o.activity[o.heap[parent]] >= o.activity[v] {
			break
		}
		o.heap[i] = o.heap[parent]
		o.place[o.heap[i]] = int32(i)
		i = parent
	}
	o.heap[i] = v
	o.place[v] = int32(i)
}

func (o *order) down(i int) {
	v := o.heap[i]
	for {
		child := 2*i + 1
		if child >= len(o.heap) {
			break
		}
		if r := child + 1; r < len(o.heap) && o.activity[o.heap[r]] > o.activity[o.heap[child]] {
			child = r
		}
		if o.activity[o.heap[child]] <= o.activity[v] {
			break
		}
		o.heap[i] = o.heap[child]
		o.place[o.heap[i]] = int32(i)
		i = child
	}
	o.heap[i] = v
	o.place[v] = int32(i)
}
