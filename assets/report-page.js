/* Draws the charts of a report from the JSON in the page; on a live page it takes both from the server. No request goes anywhere else. */
(() => {
  const main = document.getElementById('main');
  let data = JSON.parse(document.getElementById('data').textContent);
  let charts = [];

  const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  /** With commas, at most one decimal. By hand: what the browser has for it takes longer to begin than a chart to draw. */
  const grouped = (value) => {
    const [whole, part] = String(Math.round(Math.abs(value) * 10) / 10).split('.');
    const text = whole.replace(/\B(?=(\d{3})+$)/g, ',') + (part === undefined ? '' : `.${part}`);
    return value < 0 ? `-${text}` : text;
  };

  function axis(label, values) {
    return {
      stroke: colour('--ink'),
      grid: { stroke: colour('--line'), width: 1 },
      label,
      labelSize: 18,
      // The numbers of the y axis lie beside its label: a longer number takes more room.
      size: (_, texts, at) =>
        at === 0 ? 34 : 26 + 7 * Math.max(3, ...(texts ?? []).map((text) => String(text ?? '').length)),
      values,
    };
  }

  function draw(id, options, columns) {
    const place = document.getElementById(id);
    if (place === null) return;
    place.replaceChildren();
    const size = { width: Math.max(200, place.clientWidth), height: 240 };
    const chart = new uPlot(
      { ...size, ...options, cursor: { drag: { x: false, y: false } } },
      columns,
      place,
    );
    charts.push({ chart, place });
  }

  function drawOpen({ asked, timeline }) {
    const ink = { width: 1.5, spanGaps: true };
    const line = (label, stroke, dash) => ({
      label,
      stroke,
      dash,
      ...ink,
      value: (_, v) => (v == null ? '-' : grouped(v)),
    });
    const has = (column) => column.some((value) => value !== null && value !== 0);
    // Each line has its own dashes: colour is not needed to tell them apart.
    const all = [
      ['asked', colour('--dim'), [2, 4], timeline.atSec.map(() => asked)],
      ['open', colour('--blue'), [], timeline.open],
      ['verified', colour('--good'), [10, 4], timeline.verified],
      ['target', colour('--warn'), [4, 3], timeline.seenByTarget],
      ['failed', colour('--bad'), [12, 3, 2, 3], timeline.failed],
      ['lost', colour('--bad'), [2, 2], timeline.dropped],
    ].filter(([name, , , column]) => name === 'asked' || name === 'open' || has(column));
    const series = all.map(([label, stroke, dash]) => line(label, stroke, dash));
    const columns = all.map(([, , , column]) => column);
    if (has(timeline.kernel)) {
      series.push({
        label: 'kernel',
        stroke: colour('--ink'),
        width: 0,
        paths: () => null,
        points: { show: true, size: 9 },
      });
      columns.push(timeline.kernel);
    }
    draw(
      'chart-open',
      {
        scales: {
          x: { time: false },
          y: { range: (_, low, high) => [Math.min(0, low), Math.max(1, high) * 1.05] },
        },
        axes: [axis('seconds'), axis('connections', (_, ticks) => ticks.map((tick) => grouped(tick)))],
        series: [{ label: 'second', value: (_, v) => (v == null ? '-' : grouped(v)) }, ...series],
      },
      [timeline.atSec, ...columns],
    );
  }

  function drawSpectrum({ spectrum }) {
    const names = Object.keys(spectrum);
    if (names.length === 0) return;
    // 0, 90, 99, 99.9 % at equal distances: the slow end is what is looked for.
    const place = (percent) => -Math.log10(Math.max(1e-7, 1 - percent / 100));
    const xs = new Map();
    for (const [at, name] of names.entries()) {
      const pairs = spectrum[name];
      const last = pairs.length - 2;
      for (let index = 0; index < pairs.length; index += 2) {
        const x = index === last && last > 0 ? place(pairs[index - 2]) + 0.3 : place(pairs[index]);
        const row = xs.get(x) ?? names.map(() => null);
        row[at] = Math.max(0.001, pairs[index + 1]);
        xs.set(x, row);
      }
    }
    const ordered = [...xs.keys()].sort((a, b) => a - b);
    const dashes = [[], [8, 4], [2, 3]];
    const strokes = ['--blue', '--warn', '--good'].map(colour);
    const percentOf = (x) => `${Number((100 * (1 - 10 ** -x)).toPrecision(6))} %`;
    draw(
      'chart-spectrum',
      {
        scales: { x: { time: false }, y: { distr: 3 } },
        axes: [
          axis('percentile', (_, ticks) =>
            ticks.map((tick) => (Number.isInteger(tick) ? percentOf(tick) : '')),
          ),
          axis('milliseconds', (_, ticks) => ticks.map((tick) => (tick === null ? null : String(tick)))),
        ],
        series: [
          { label: 'percentile', value: (_, v) => (v == null ? '-' : percentOf(v)) },
          ...names.map((label, at) => ({
            label,
            stroke: strokes[at],
            dash: dashes[at],
            width: 1.5,
            spanGaps: true,
            value: (_, v) => (v == null ? '-' : `${v} ms`),
          })),
        ],
      },
      [ordered, ...names.map((_, at) => ordered.map((x) => xs.get(x)[at]))],
    );
  }

  /** Charts that are not drawn yet, by their places. */
  let waiting = new Map();

  function drawWaiting(isWanted) {
    for (const [id, drawOne] of waiting) {
      const place = document.getElementById(id);
      if (place !== null && !isWanted(place)) continue;
      waiting.delete(id);
      drawOne();
    }
  }
  const drawRest = () => drawWaiting(() => true);

  /** What is in the window first; the rest when that is on the screen, in a hidden tab a little later. */
  function drawAll() {
    for (const { chart } of charts) chart.destroy();
    charts = [];
    if (data === null) return;
    waiting = new Map([
      ['chart-open', () => drawOpen(data)],
      ['chart-spectrum', () => drawSpectrum(data)],
    ]);
    drawWaiting((place) => place.getBoundingClientRect().top < innerHeight);
    requestAnimationFrame(() => setTimeout(drawRest));
    setTimeout(drawRest, 500);
  }

  let resizing = 0;
  addEventListener('resize', () => {
    cancelAnimationFrame(resizing);
    resizing = requestAnimationFrame(() => {
      for (const { chart, place } of charts)
        chart.setSize({ width: Math.max(200, place.clientWidth), height: 240 });
    });
  });
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);

  // On paper every chart is drawn and every table is open.
  let closed = [];
  addEventListener('beforeprint', () => {
    drawRest();
    closed = [...document.querySelectorAll('details:not([open])')];
    for (const details of closed) details.open = true;
  });
  addEventListener('afterprint', () => {
    for (const details of closed) details.open = false;
  });

  /** What the reader has open and where the focus is stays. */
  function show(body) {
    const open = [...document.querySelectorAll('details[open]')].map(({ id }) => id);
    const focused = document.activeElement?.closest('details')?.id;
    main.innerHTML = body.main;
    for (const id of open) {
      const details = document.getElementById(id);
      if (details !== null) details.open = true;
    }
    if (focused !== undefined)
      document.getElementById(focused)?.querySelector('summary')?.focus({ preventScroll: true });
    document.title = body.title;
    data = body.data;
    drawAll();
  }

  function say(text) {
    let line = document.getElementById('connection');
    if (line === null) {
      line = document.createElement('p');
      line.id = 'connection';
      line.setAttribute('role', 'status');
      main.before(line);
    }
    line.textContent = text;
  }

  /** Server-sent events, read by hand: only so can the token travel in a header and stay out of every log. */
  async function follow() {
    const token = location.hash.startsWith('#token=') ? location.hash.slice('#token='.length) : '';
    const response = await fetch('events', {
      headers: { authorization: `Bearer ${token}` },
      cache: 'no-store',
    });
    if (response.status === 401) {
      say(
        'This page needs the token: open the address that the run has printed, with all that stands behind #.',
      );
      return 'over';
    }
    if (!response.ok) throw new Error(String(response.status));
    const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
    let text = '';
    for (;;) {
      const { done, value } = await reader.read();
      if (done) return 'cut';
      text += value;
      for (let end = text.indexOf('\n\n'); end >= 0; end = text.indexOf('\n\n')) {
        const lines = text.slice(0, end).split('\n');
        text = text.slice(end + 2);
        const name = lines.find((line) => line.startsWith('event: '))?.slice(7);
        const body = lines.find((line) => line.startsWith('data: '))?.slice(6);
        if (name === 'report' || name === 'end') show(JSON.parse(body));
        if (name === 'end') {
          say('The run is over: this is its report.');
          return 'over';
        }
      }
    }
  }

  async function live() {
    for (let tries = 0; tries < 60; tries++) {
      try {
        if ((await follow()) === 'over') return;
      } catch {
        // The next try says whether the run is still there.
      }
      say('The connection to the run is cut; trying again.');
      await new Promise((resolve) => setTimeout(resolve, 1000));
    }
    say('The run cannot be reached any more.');
  }

  drawAll();
  if (data === null) void live();
})();
