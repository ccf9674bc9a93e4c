// Our own checks of a page, for what axe does not see (RGAA 1.6, 3.2, 3.3, 5, 6.1, 8.2, 8.3, 8.7, 9.1, 10.4, 10.7, 10.11,
// 12.7; WCAG 2.5.8). Returns what is wrong. `least`: contrast of text and of graphics, size of a target in pixels.
least => {
  const wrong = [], all = q => [...document.querySelectorAll(q)];
  const say = (what, e) => wrong.push(what + ': ' + (e.outerHTML || e).slice(0, 120));
  const parts = colour => colour.match(/[\d.]+/g).map(Number);
  const luminance = colour => parts(colour).slice(0, 3).map(p => p / 255)
    .map(p => p <= .04045 ? p / 12.92 : ((p + .055) / 1.055) ** 2.4)
    .reduce((sum, p, i) => sum + p * [.2126, .7152, .0722][i], 0);
  const contrast = (a, b) => {
    const [dark, light] = [luminance(a), luminance(b)].sort((x, y) => x - y);
    return (light + .05) / (dark + .05);
  };
  const paper = e => {
    for (; e; e = e.parentElement) {
      const colour = getComputedStyle(e).backgroundColor;
      if (parts(colour)[3] !== 0) return colour;
    }
    return 'rgb(255, 255, 255)';
  };
  if (!document.documentElement.lang) say('no language', document.title);
  const zoom = document.querySelector('meta[name=viewport]');
  if (!zoom || /user-scalable|maximum-scale/.test(zoom.content)) say('zoom forbidden', zoom || document.title);
  const ids = all('[id]').map(e => e.id);
  ids.forEach((id, i) => { if (ids.indexOf(id) < i) say('id twice', id); });
  all('table').forEach(t => {
    if (!t.caption || !t.caption.textContent.trim()) say('table without caption', t);
    if (t.rows.length > 25) say('long table', t);
  });
  all('th').forEach(h => { if (!h.scope) say('th without scope', h); });
  all('svg').forEach(s => {
    if (s.getAttribute('aria-hidden') === 'true') return;
    if (s.getAttribute('role') !== 'img') say('svg without role', s);
    const names = (s.getAttribute('aria-labelledby') || '-').split(' ');
    if (names.some(id => !document.getElementById(id))) say('svg without name', s);
    const told = s.querySelector('desc');
    if (!told || !/\d/.test(told.textContent)) say('description without a figure', s);
    if (s.querySelector('text')) say('text in the picture', s);
  });
  all('body *').forEach(e => {
    if (e.closest('svg') || ![...e.childNodes].some(n => n.nodeType === 3 && n.data.trim())) return;
    if (contrast(getComputedStyle(e).color, paper(e)) < least.text) say('faint text', e);
  });
  all('svg .line, svg .band, svg .gap-line, svg path.faulty').forEach(e => {
    if (contrast(getComputedStyle(e).stroke, paper(e.closest('svg'))) < least.graphic) say('faint line', e);
  });
  all('.map text').forEach(e => {
    const {fill, stroke} = getComputedStyle(e);
    if (stroke === 'none' || contrast(fill, stroke) < least.text) say('faint text', e);
  });
  all('.map a path, .map g > path').forEach(e => {
    if (contrast(getComputedStyle(e).stroke, paper(e.closest('svg'))) < least.graphic) say('faint line', e);
  });
  all('svg').forEach(s => {
    const line = s.querySelector('.line'), band = s.querySelector('.band');
    const fill = band && getComputedStyle(band).fill;
    const hidden = line && band && fill !== 'none' && contrast(getComputedStyle(line).stroke, fill) < least.graphic;
    if (hidden) say('faint line on its band', line);
  });
  all('a').forEach(a => {
    if (/^(ici|here|en savoir plus|more|lire la suite)$/i.test(a.textContent.trim())) say('vague link', a);
    if (a.hreflang && a.lang !== a.hreflang) say('unmarked language', a);
  });
  all('a, summary').forEach(e => {
    const box = e.getBoundingClientRect();
    if (!e.classList.contains('skip') && (box.width < least.target || box.height < least.target)) say('small target', e);
    e.focus({preventScroll: true});
    const ring = getComputedStyle(e);
    if (e.matches(':focus-visible') && (ring.outlineStyle !== 'solid' || parseFloat(ring.outlineWidth) < 2))
      say('no ring of focus', e);
  });
  if (!all(':focus-visible').length) say('nothing takes the focus', document.title);
  document.activeElement.blur();
  const heads = all('h1, h2, h3, h4, h5, h6'), levels = heads.map(h => +h.tagName[1]);
  if (levels.filter(level => level === 1).length !== 1) say('not one h1', document.title);
  levels.forEach((level, i) => { if (i && level > levels[i - 1] + 1) say('heading skipped', heads[i]); });
  const first = document.querySelector('a');
  const skips = first.classList.contains('skip') && document.querySelector(first.getAttribute('href'));
  if (!skips) say('no skip link', first);
  if (document.documentElement.scrollWidth > innerWidth) say('wider than the screen', document.title);
  return wrong;
}
