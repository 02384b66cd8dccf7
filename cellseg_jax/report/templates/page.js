'use strict';
{
  const root = document.documentElement;
  const dark = matchMedia('(prefers-color-scheme: dark)');
  document.getElementById('theme').onclick = () => {
    const now = root.dataset.theme || (dark.matches ? 'dark' : 'light');
    root.dataset.theme = now === 'dark' ? 'light' : 'dark';
  };
  for (const stack of document.querySelectorAll('.zoomable')) {
    stack.onclick = () => stack.closest('figure').classList.toggle('zoomed');
  }
}
