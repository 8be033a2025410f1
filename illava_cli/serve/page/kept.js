// What the browser keeps for this page: for the tab (sessionStorage) or for longer (localStorage).

const here = new Map(); // stands in where a browser keeps nothing: then it lasts as long as the page

export function kept(storage, name) {
  try {
    return window[storage].getItem(name) ?? here.get(name) ?? null;
  } catch {
    return here.get(name) ?? null;
  }
}

export function keep(storage, name, value) {
  here.set(name, value);
  try {
    window[storage].setItem(name, value);
  } catch {
    // it stays in `here`
  }
}
