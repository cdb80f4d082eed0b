package search

// set holds numbers in the order in which they came. It takes 8 bytes for each
// and about 8 more for finding it.
type set struct {
	keys  []uint64
	slots []uint32 // the place in keys plus one; 0: free; a power of two, half of it free at least
}

// add is whether the key is new.
func (s *set) add(key uint64) bool {
	if 2*len(s.keys) >= len(s.slots) {
		s.grow()
	}
	at := s.find(key)
	if s.slots[at] != 0 {
		return false
	}
	s.keys = append(s.keys, key)
	s.slots[at] = uint32(len(s.keys))
	return true
}

// find returns the slot of a key, or the free one where it belongs.
func (s *set) find(key uint64) uint64 {
	mask := uint64(len(s.slots) - 1)
	for at := mix(key) & mask; ; at = (at + 1) & mask {
		if n := s.slots[at]; n == 0 || s.keys[n-1] == key {
			return at
		}
	}
}

func (s *set) grow() {
	s.slots = make([]uint32, max(1<<10, 2*len(s.slots)))
	for i, key := range s.keys {
		s.slots[s.find(key)] = uint32(i + 1)
	}
}

// mix spreads all bits of a key over all bits: keys of neighbouring states differ
// in few of them.
func mix(key uint64) uint64 {
	key = (key ^ key>>32) * 0x9e3779b97f4a7c15
	key = (key ^ key>>32) * 0x9e3779b97f4a7c15
	return key ^ key>>32
}
