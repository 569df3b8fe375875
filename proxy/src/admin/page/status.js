'use strict';
// Whatever is shown goes through `el`, which makes text of it and never markup: paths and names are what strangers sent.
const EVERY = 3000, PATIENCE = 8000;
const $ = id => document.getElementById(id);
const number = new Intl.NumberFormat('en');
const count = n => n == null ? '–' : number.format(n);

function el(tag, props, ...children) {
  const made = document.createElement(tag);
  for (const [key, value] of Object.entries(props || {})) value != null && made.setAttribute(key, value);
  made.append(...children.flat(Infinity).filter(child => child != null).map(child => child instanceof Node ? child : String(child)));
  return made;
}

// The proxy's clock decides what is how long ago.
let ahead = 0;
const now = () => Date.now() + ahead;

function ago(at) {
  const seconds = (at - now()) / 1000, past = seconds < 0, s = Math.abs(seconds);
  // The proxy tells its time in whole seconds.
  if (s < (past ? 2 : 1.5)) return 'just now';
  const [n, unit] = s < 100 ? [s, 's'] : s < 5400 ? [s / 60, 'min'] : s < 129600 ? [s / 3600, 'h'] : [s / 86400, 'd'];
  return past ? `${Math.round(n)} ${unit} ago` : `in ${Math.round(n)} ${unit}`;
}

function time(text) {
  if (!text) return el('span', { class: 'none' }, 'never');
  const at = Date.parse(text);
  return Number.isNaN(at) ? el('span', {}, text) : el('time', { datetime: text, title: text }, ago(at));
}

function tick() {
  for (const shown of document.querySelectorAll('time')) {
    const text = ago(Date.parse(shown.dateTime));
    if (shown.textContent !== text) shown.textContent = text;
  }
}

function seconds(s) {
  if (s == null) return '–';
  if (s >= 60) return '60 s or more';
  return s < 1 ? `${s < 0.01 ? (s * 1000).toFixed(1) : Math.round(s * 1000)} ms` : `${s.toFixed(1)} s`;
}

// Never 100 % for what is less.
function share(part, whole) {
  if (part == null || !whole) return '';
  const percent = 100 * part / whole;
  if (part < whole && percent > 99.9) return '99.9 %';
  if (part > 0 && percent < 0.1) return '0.1 %';
  return `${percent >= 100 || percent === 0 ? percent.toFixed(0) : percent.toFixed(1)} %`;
}

// What is shown is only made anew when it is something else, so that what is selected or read aloud stays.
const shownBefore = new Map();
function show(id, data, make) {
  const key = JSON.stringify(data);
  if (shownBefore.get(id) === key) return;
  shownBefore.set(id, key);
  $(id).replaceChildren(...[make()].flat().filter(part => part != null));
}

function table(id, columns, rows, none) {
  show(id, [rows, none], () => {
    // The roles stay when a narrow screen has a row's cells below each other.
    const cell = (row, [name, of, kind], index) => index ? el('td', { role: 'cell', class: kind, 'data-of': name }, el('div', {}, of(row)))
      : el('th', { role: 'rowheader', scope: 'row', class: kind }, of(row));
    const line = cells => el('tr', { role: 'row' }, cells);
    const body = rows.length ? rows.map(row => line(columns.map((column, index) => cell(row, column, index))))
      : line(el('td', { role: 'cell', class: 'none', colspan: columns.length }, none));
    const head = ([name, , kind]) => el('th', { role: 'columnheader', scope: 'col', class: kind === 'n' ? 'n' : null }, name);
    return [el('thead', { role: 'rowgroup' }, line(columns.map(head))), el('tbody', { role: 'rowgroup' }, body)];
  });
}

const opened = c => c.syns_retransmitted == null ? null : Math.max(0, c.syns - c.syns_retransmitted);

// The way, in two parts: connections, then requests, of which a connection may carry many.
function steps(c, guarded) {
  const open = guarded ? opened(c) : null, hands = guarded ? c.handshakes : null;
  const lost = pairs => pairs.filter(([n]) => n).map(([n, what]) => `${count(n)} ${what}`).join(', ');
  return [[
    ['SYN', open, open, lost(guarded ? [[c.dropped, 'packets dropped by the guard']] : [])],
    ['Handshake', hands, open, lost(guarded ? [[c.handshakes_failed, 'never completed']] : [])],
    ['Accepted', c.accepted, hands, ''],
    ['TLS', c.accepted && !c.tls && !c.tls_failed ? null : c.tls, c.accepted, lost([[c.tls_failed, 'failed']]), 'not used'],
  ], [
    ['Requests', c.requests, null, ''],
    ['Delivered', c.delivered, c.requests, lost([[c.failed, 'failed'], [c.refused, 'refused']])],
  ]];
}

function funnel(id, c, guarded) {
  show(id, [c, guarded], () => steps(c, guarded).map((part, which) => {
    const most = Math.max(1, ...part.map(([, n]) => n || 0));
    return el('ol', { class: which ? 'steps last' : 'steps' }, part.map(([name, n, of, lost, without]) => {
      const fill = el('div', { class: 'fill' });
      fill.style.setProperty('--share', `${100 * (n || 0) / most}%`);
      fill.style.setProperty('--least', n ? '3px' : '0');
      return el('li', { class: n == null ? 'uncounted' : null }, el('span', {}, name), el('div', { class: 'track' }, fill),
        el('span', { class: 'figure' }, n == null ? without || 'not counted' : [count(n), el('span', { class: 'of' }, share(n, of))]),
        lost ? el('span', { class: 'lost' }, lost) : null);
    }));
  }));
}

// Where the most of Meta's got lost.
function verdict(c, guarded) {
  const losses = [
    [guarded ? c.handshakes_failed : 0, 'in the TCP handshake: `hookgate doctor` says on which side', opened(c), 'connections'],
    [c.tls_failed, 'in the TLS handshake', c.accepted, 'connections'],
    [c.refused, 'here: refused before an upstream was asked', c.requests, 'requests'],
    [c.failed, 'behind this proxy: at the upstream or on the way there', c.requests, 'requests'],
  ].filter(([n]) => n).sort((a, b) => b[0] / (b[2] || b[0]) - a[0] / (a[2] || a[0]));
  if (!c.requests && !c.accepted && !(guarded && c.syns)) return 'Nothing has come from Meta yet.';
  if (!losses.length) return 'Nothing of Meta’s was lost on the way.';
  const [n, where, of, what] = losses[0];
  return `Most was lost ${where} (${count(n)} of ${count(of)} ${what}).`;
}

function worst(c, guarded) {
  const losses = [[guarded ? c.handshakes_failed : 0, 'handshake'], [c.tls_failed, 'TLS'], [c.refused, 'refused'], [c.failed, 'failed']];
  const found = losses.filter(([n]) => n).map(([n, where]) => `${where} ${count(n)}`);
  return found.length ? el('span', { class: 'bad-text' }, found.join(', ')) : '–';
}

// Requests a second, from one answer to the next.
let before = null;
function rate(s) {
  const is = { at: performance.now(), since: s.since, requests: (s.funnel.meta.requests || 0) + (s.funnel.other.requests || 0) };
  const was = before && before.since === s.since && before.requests <= is.requests ? before : null;
  before = is;
  return was ? `${((is.requests - was.requests) * 1000 / (is.at - was.at)).toFixed(1)}/s` : '–';
}

function tiles(s) {
  const lately = rate(s), c = s.connections, all = c.meta + c.allowed + c.other;
  const whose = s.funnel.meta.requests ? s.funnel.meta : s.funnel.other;
  const total = key => (s.funnel.meta[key] || 0) + (s.funnel.other[key] || 0);
  show('tiles', [lately, total('requests'), whose, total('failed'), total('refused'), s.upstreams.in_flight, c], () => [
    ['Requests', lately, `${count(total('requests'))} in all`],
    ['Delivered', share(whose.delivered, whose.requests) || '–', `${count(whose.delivered)} of ${whose === s.funnel.meta ? 'Meta’s ' : ''}${count(whose.requests)}`],
    ['Failed', count(total('failed')), 'after an upstream was asked'],
    ['Refused', count(total('refused')), 'before an upstream'],
    ['In flight', count(s.upstreams.in_flight), 'requests'],
    ['Connections', count(all), `${count(c.meta)} Meta’s, of ${count(c.most)}`],
  ].map(([name, value, more]) => el('div', {}, el('dt', {}, name), el('dd', {}, value, el('small', {}, more)))));
}

function codes(row) {
  return Object.entries(row.codes).map(([code, n]) => `${code}\u00a0×\u00a0${count(n)}`).join(', ') || '–';
}

function latest(failure) {
  if (!failure) return '–';
  return [el('span', { class: 'bad-text' }, failure.error ? words(failure.error) : `answered ${failure.code || 'by nobody'}`), el('small', {}, time(failure.time))];
}

function facts(title, pairs) {
  return el('div', { class: 'card' }, el('h3', {}, title), el('dl', { class: 'facts' }, pairs.map(([k, v]) => [el('dt', {}, k), el('dd', {}, v)])));
}

const words = name => name.replaceAll('_', ' ');
const counts = o => Object.entries(o).map(([k, n]) => [words(k), count(n)]);

function machine(s) {
  const { limits: l, timeouts: t, connections: c, dns: d, configuration: f, guard: g } = s;
  const guard = [['state', g.state], ['mode', g.mode], ...g.interfaces.map(i => [i.name, i.xdp]), ['counting since', time(g.since)]];
  const dns = d ? [['servers', d.servers.join('\n')], ['last answer', time(d.last_answer)], ...(d.silent_since ? [['silent since', time(d.silent_since)]] : [])]
    : [['servers', 'no upstream needs them']];
  const reload = f.reload ? [['last reload', el('span', {}, f.reload.done ? '' : 'refused, ', time(f.reload.time))], ['it said', f.reload.text]] : [['last reload', 'none since the start']];
  show('machine', [l, t, c, d, f, g, s.listeners, s.refused, s.tls_handshakes, s.tls_groups, s.since], () => [
    facts('Listeners', s.listeners.map(x => [x.address, x.protocol])),
    facts('Guard', guard),
    facts('DNS', dns),
    facts('Configuration', [['file', f.file], ['started', time(s.since)], ...reload]),
    Object.keys(s.refused).length ? facts('Refused', counts(s.refused)) : null,
    Object.keys(s.tls_handshakes).length ? facts('TLS handshakes', counts(s.tls_handshakes)) : null,
    Object.keys(s.tls_groups).length ? facts('TLS keys agreed on with', counts(s.tls_groups)) : null,
    facts('Connections', [['Meta', count(c.meta)], ['allowed', count(c.allowed)], ['others', count(c.other)], ['most in all', count(c.most)], ['most of others', count(c.most_of_strangers)], ['most per source', count(c.most_per_source)]]),
    facts('Limits', Object.entries(l).map(([k, n]) => [words(k), n ? count(n) : 'none'])),
    facts('Time-outs', Object.entries(t).map(([k, n]) => [words(k), `${n} s`])),
  ]);
}

function render(s) {
  const guarded = s.guard.state === 'attached', f = s.funnel;
  document.title = `${s.ready ? '' : 'NOT READY – '}${s.name}`;
  $('name').textContent = s.name;
  const state = s.ready ? 'ready' : 'not ready';
  if ($('state').textContent !== state) $('state').textContent = state;
  $('state').className = `pill ${s.ready ? 'go' : 'bad'}`;
  $('reasons').hidden = s.ready;
  show('reasons', s.reasons, () => s.reasons.map(reason => el('li', {}, reason)));
  show('about', [s.hookgate, s.since], () => [`hookgate ${s.hookgate}, started `, time(s.since)]);
  tiles(s);
  $('verdict').textContent = verdict(f.meta, guarded);
  funnel('funnel-meta', f.meta, guarded);
  funnel('funnel-other', f.other, guarded);
  const kernel = of => row => guarded ? count(of(row)) : '–';
  table('prefixes', [['Prefix', r => r.prefix], ['SYN', kernel(opened), 'n'], ['Handshakes', kernel(r => r.handshakes), 'n'], ['TLS', r => count(r.tls), 'n'],
    ['Requests', r => count(r.requests), 'n'], ['Delivered', r => count(r.delivered), 'n'], ['Lost', r => worst(r, guarded)], ['Last packet', r => guarded ? time(r.last_seen) : '–']],
  f.prefixes, `nothing has come from any of the ${count(f.in_force)} prefixes yet`);
  $('prefixes-more').textContent = f.unlisted ? `and ${count(f.unlisted)} more` : '';
  const u = s.upstreams;
  table('upstreams', [['Upstream', r => r.upstream], ['Requests', r => count(r.requests), 'n'],
    ['Delivered', r => el('span', { class: r.delivered < r.requests ? 'warn-text' : 'go-text' }, share(r.delivered, r.requests) || '–'), 'n'], ['In flight', r => count(r.in_flight), 'n'],
    ['Half within', r => seconds(r.p50_seconds), 'n'], ['99 % within', r => seconds(r.p99_seconds), 'n'], ['Answers', codes, 'loose'], ['Latest failure', r => latest(r.latest_failure), 'loose']],
  u.list, 'no upstream was sent a request yet');
  $('upstreams-more').textContent = `${count(u.configured)} configured, ${count(u.used)} used${only ? '' : u.unlisted ? `, ${count(u.unlisted)} of them not shown` : ''}`;
  table('failures', [['When', r => time(r.time)], ['From', r => [r.source, r.prefix ? el('small', {}, 'Meta ', r.prefix) : null]],
    ['Request', r => `${r.method} ${r.path}`.trim() || 'not readable', 'wide'], ['Answer', r => r.code || 'none', 'n'],
    ['Why', r => `${r.outcome}: ${r.error ? `${words(r.error)} (${r.stage})` : `the upstream answered ${r.upstream_code}`}`, 'loose'], ['After', r => seconds(r.duration_seconds), 'n']],
  s.failures, 'none');
  const left = c => (Date.parse(c.not_after) - now()) / 86400000;
  table('certificates', [['Names', c => c.names.join(', ') || '–', 'wide'], ['From', c => c.source + (c.self_signed ? ', self-signed' : '')],
    ['Ends', c => el('span', { class: left(c) < 0 ? 'bad-text' : left(c) < 14 ? 'warn-text' : null }, time(c.not_after))], ['Began', c => time(c.not_before)]],
  s.certificates, 'none: no listener has TLS');
  show('acme', s.acme, () => s.acme && [`${s.acme.domains.join(', ')} from ${s.acme.directory}: `, s.acme.failure ? `${s.acme.failure}; ` : '',
    s.acme.next_attempt ? el('span', {}, 'asked next ', time(s.acme.next_attempt)) : 'being asked now']);
  messages(s.messages);
  machine(s);
}

const SVG = 'http:' + '//www.w3.org/2000/svg';
function svg(tag, props, ...children) {
  const made = document.createElementNS(SVG, tag);
  for (const [key, value] of Object.entries(props)) made.setAttribute(key, value);
  made.append(...children);
  return made;
}

// A bar a step. Layers share a scale and cover each other: how they look, and how much of a point they are. What is not 0 can be seen.
function figure(c, text, ...layers) {
  const most = Math.max(1, ...layers.flatMap(([, of]) => c.points.map(of)));
  const begin = Date.parse(c.from), steps = time => (Date.parse(time) - begin) / 1000 / c.step_seconds;
  const bars = layers.flatMap(([kind, of]) => c.points.filter(p => of(p) > 0).map(p => {
    const height = Math.max(1, 40 * of(p) / most);
    return svg('rect', { class: kind, x: Math.round(steps(p.start)), width: .9, y: 40 - height, height });
  }));
  return el('figure', {}, svg('svg', { viewBox: `0 0 ${Math.max(1, Math.ceil(steps(c.to)))} 40`, preserveAspectRatio: 'none', role: 'img', 'aria-label': text }, ...bars),
    el('figcaption', { class: 'muted' }, text));
}

const sum = (c, of) => c.points.reduce((all, p) => all + of(p), 0);

function chart(id, c) {
  show(id, c, () => [['attempts', 'attempts to connect'], ['posts', 'POSTs']].map(([key, name]) => {
    const all = p => p[key], lost = p => p[key + '_lost'];
    return figure(c, `${name}: ${count(sum(c, all))}, lost or late ${count(sum(c, lost))}`, ['came', all], ['gone', lost]);
  }));
}

// How late, or how long.
function span(s) {
  const [n, unit] = s < 120 ? [s, 's'] : s < 7200 ? [s / 60, 'min'] : s < 172800 ? [s / 3600, 'h'] : [s / 86400, 'd'];
  return `${number.format(n < 10 ? Math.round(n * 10) / 10 : Math.round(n))} ${unit}`;
}

// The upper end of a bucket; the last one has none.
const within = s => s == null ? '–' : s > 172800 ? 'over 2 d' : span(s);

function messagesChart(id, c) {
  const of = key => p => p.messages[key] || 0, total = (...keys) => p => keys.reduce((all, key) => all + of(key)(p), 0);
  const all = key => count(sum(c, of(key)));
  const range = (key, text) => {
    const known = c.points.map(p => p.messages[key]).filter(n => n != null);
    return known.length ? `highest ${text(Math.max(...known))}, latest ${text(known.at(-1))}` : 'none';
  };
  const few = n => number.format(Math.round(n * 10) / 10);
  show(id, c, () => [
    figure(c, `lag, mean of a step: ${range('lag_seconds', span)}`, ['came', of('lag_seconds')]),
    figure(c, `outcomes: delivered ${all('delivered')}, recovered ${all('recovered')}, unknown ${all('unknown')}, lost ${all('lost')}; duplicate ${all('duplicate')}`,
      ['came', total('delivered', 'recovered', 'unknown', 'lost')], ['slow', total('recovered', 'unknown', 'lost')], ['gone', of('lost')]),
    figure(c, `outstanding: ${range('outstanding', few)}`, ['slow', of('outstanding')]),
    figure(c, `quiet numbers: ${range('quiet_numbers', few)}`, ['gone', of('quiet_numbers')]),
    figure(c, `status chains: complete ${all('chains_complete')}, without “sent” ${all('chains_sent_missing')}`,
      ['came', total('chains_complete', 'chains_sent_missing')], ['gone', of('chains_sent_missing')]),
  ]);
}

const MOST_NUMBERS = 4, MOST_ROWS = 50;
const quiet = row => row.numbers.filter(n => n.quiet_since);

function numbers(row) {
  const sorted = [...quiet(row), ...row.numbers.filter(n => !n.quiet_since)], shown = sorted.slice(0, MOST_NUMBERS);
  if (!shown.length) return '–';
  return [shown.map(n => el('div', {}, n.id, el('small', { class: n.quiet_since ? 'bad-text' : null }, n.quiet_since ? 'quiet since ' : 'last ', time(n.quiet_since || n.last)))),
    sorted.length > shown.length ? el('small', {}, `and ${count(sorted.length - shown.length)} more`) : null];
}

function chains(row) {
  const { complete, sent_missing: missing, unknown } = row.chains;
  if (!(complete + missing + unknown)) return '–';
  const judged = complete + missing;
  return [el('span', { class: missing ? 'warn-text' : null }, judged ? `${count(missing)} of ${count(judged)} without “sent”` : ''), unknown ? el('small', {}, `unknown ${count(unknown)}`) : null];
}

// What an operator should know first.
function messagesLead(rows) {
  const add = of => rows.reduce((all, row) => all + of(row), 0), are = (n, what, rest) => `${count(n)} ${what}${n === 1 ? ' is' : 's are'} ${rest}`;
  const found = [
    [add(r => quiet(r).length), n => are(n, 'number', 'quiet')],
    [add(r => r.outcomes.lost), n => are(n, 'event', 'lost')],
    [add(r => r.outstanding), n => are(n, 'event', 'outstanding: failed so far, and may come again')],
    [add(r => r.outcomes.unknown), n => are(n, 'event', 'unknown')],
    [add(r => r.chains.sent_missing), n => `of ${count(n)} sent messages a later status came and “sent” never did`],
  ].filter(([n]) => n).map(([n, text]) => text(n)).join('; ');
  if (!rows.length) return 'No event of Meta’s has come yet.';
  return found ? `${found[0].toUpperCase()}${found.slice(1)}.` : 'Each event that came was delivered in the end.';
}

function messages(m) {
  $('messages-figures').hidden = !m;
  show('messages-lead', m && m.upstreams, () => m ? messagesLead(m.upstreams)
    : 'Bodies are not scanned ([insight] messages is false), or another process still has the ledger.');
  if (!m) return;
  const trouble = r => (quiet(r).length ? 4 : 0) + (r.outcomes.lost ? 2 : 0) + (r.outstanding ? 1 : 0);
  const sorted = [...m.upstreams].sort((a, b) => trouble(b) - trouble(a)), outcome = key => r => count(r.outcomes[key]);
  table('messages', [['Upstream, product', r => [r.upstream || '(none)', el('small', {}, r.product)]], ['Numbers', numbers], ['Delivered', outcome('delivered'), 'n'], ['Recovered', outcome('recovered'), 'n'],
    ['Lost', r => el('span', { class: r.outcomes.lost ? 'bad-text' : null }, count(r.outcomes.lost)), 'n'], ['Unknown', outcome('unknown'), 'n'], ['Duplicate', outcome('duplicate'), 'n'],
    ['Outstanding', r => el('span', { class: r.outstanding ? 'warn-text' : null }, count(r.outstanding)), 'n'],
    ['Lag p50', r => within(r.lag_seconds.p50), 'n'], ['Lag p99', r => within(r.lag_seconds.p99), 'n'], ['Status chains', chains, 'loose']],
  sorted.slice(0, MOST_ROWS), 'no event of Meta’s has come yet');
  const unscanned = Object.entries(m.unscanned).filter(([, n]) => n).map(([reason, n]) => `${words(reason)} ${count(n)}`);
  const more = [`The ledger reaches ${span(m.horizon_seconds)} back; lag is of the last 24 hours.`, unscanned.length ? ` POSTs not scanned: ${unscanned.join(', ')}.` : '',
    sorted.length > MOST_ROWS ? ` ${count(sorted.length - MOST_ROWS)} more rows: hookgate messages.` : ''].join('');
  if ($('messages-more').textContent !== more) $('messages-more').textContent = more;
}

async function askHistory() {
  const get = async path => { const a = await fetch(path, { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) }); return a.ok ? a.json() : null; };
  try {
    const [lost, hours, days] = await Promise.all(['lost.json?minutes=60', 'history.json?minutes=2880', 'history.json?minutes=86400'].map(get));
    const text = lost ? lost.verdict ? `${lost.verdict.text}. ${lost.verdict.next}` : 'Nothing notable in the last hour.' : 'There are no figures of the last hour.';
    if ($('lost').textContent !== text) $('lost').textContent = text;
    $('lost').className = lost && lost.verdict ? 'lead bad-text' : 'lead';
    hours && chart('chart-48', hours);
    days && chart('chart-60', days);
    hours && messagesChart('messages-48', hours);
    days && messagesChart('messages-60', days);
  } catch { /* The other request tells that there is no contact. */ }
}

let only = '', heard = null, timer = 0;

async function ask() {
  clearTimeout(timer);
  const wanted = only;
  try {
    const answer = await fetch('status.json' + (wanted ? `?upstream=${encodeURIComponent(wanted)}` : ''), { cache: 'no-store', signal: AbortSignal.timeout(PATIENCE) });
    if (answer.status === 404 && wanted) {
      $('found').textContent = `“${wanted}” is not among the allowed upstreams`;
      only = '';
      return ask();
    }
    if (!answer.ok) throw new Error(`it answered ${answer.status}`);
    const s = await answer.json();
    ahead = Date.parse(s.taken) - Date.now();
    heard = s.taken;
    render(s);
    $('contact').hidden = true;
    document.body.classList.remove('stale');
  } catch (error) {
    document.body.classList.add('stale');
    $('state').textContent = 'no contact';
    $('state').className = 'pill bad';
    const parts = heard ? ['Lost contact with hookgate ', time(heard), ': the figures are of then. '] : ['hookgate does not answer. '];
    if ($('contact').hidden) $('contact').replaceChildren(...parts, error instanceof SyntaxError ? 'What it said is not what this page knows.' : `(${error.message})`);
    $('contact').hidden = false;
  }
  timer = setTimeout(ask, EVERY);
}

$('find').addEventListener('submit', event => {
  event.preventDefault();
  only = $('upstream').value.trim().toLowerCase();
  $('found').textContent = only ? `only ${only}, its failures included` : '';
  ask();
});
// Nobody looks: nothing is asked.
document.addEventListener('visibilitychange', () => document.hidden ? clearTimeout(timer) : ask());
setInterval(() => document.hidden || askHistory(), 60000);
askHistory();
setInterval(tick, 1000);
ask();
