package page_test

import (
	"bytes"
	"cmp"
	"image"
	"image/color"
	"image/png"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/chromedp/chromedp"
)

// picture is the one of the README: a story with copies that were absorbed.
func picture(p tab, dir string) {
	p.run(theme("light"), chromedp.EmulateViewport(1440, 900))
	p.do(`document.getElementById("tab-break").click(); document.querySelector("[data-break='duplicates']").click(); document.getElementById("tab-story").click()`)
	p.until("what was absorbed", `document.querySelectorAll("#diagram svg:not(.narrow) .absorbed").length >= 5`)
	path := filepath.Join(dir, "readme.png")
	p.shoot(path, false)
	shrink(p.t, path)
}

// shrink leaves a picture its 256 most frequent colours: a drawing needs no more,
// and it takes half of the space.
func shrink(t *testing.T, path string) {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	whole, err := png.Decode(bytes.NewReader(data))
	if err != nil {
		t.Fatal(err)
	}
	often := map[color.Color]int{}
	each(whole.Bounds(), func(x, y int) { often[color.RGBAModel.Convert(whole.At(x, y))]++ })
	colours := slices.SortedFunc(maps.Keys(often), func(a, b color.Color) int { return cmp.Compare(often[b], often[a]) })
	small := image.NewPaletted(whole.Bounds(), colours[:min(256, len(colours))])
	nearest := map[color.Color]uint8{}
	each(whole.Bounds(), func(x, y int) {
		c := color.RGBAModel.Convert(whole.At(x, y))
		i, known := nearest[c]
		if !known {
			i = uint8(small.Palette.Index(c))
			nearest[c] = i
		}
		small.SetColorIndex(x, y, i)
	})
	var out bytes.Buffer
	encoder := png.Encoder{CompressionLevel: png.BestCompression}
	if err := encoder.Encode(&out, small); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, out.Bytes(), 0o644); err != nil { //nolint:gosec // a picture for everybody
		t.Fatal(err)
	}
}

func each(r image.Rectangle, f func(x, y int)) {
	for y := r.Min.Y; y < r.Max.Y; y++ {
		for x := r.Min.X; x < r.Max.X; x++ {
			f(x, y)
		}
	}
}
