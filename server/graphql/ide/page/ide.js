"use strict";

// Signing in gives this origin a cookie that scripts can't read; it counts beside this header only.
const OWN_PAGE = { "X-Requested-With": "GraphiQL" };

const keyField = document.getElementById("key");
const status = document.getElementById("status");
const root = ReactDOM.createRoot(document.getElementById("graphiql"));
const explorer = GraphiQLPluginExplorer.explorerPlugin();

const WELCOME = `# Log in or paste an API key above.
# Ctrl-Enter runs this.
query Welcome {
  viewer {
    email
  }
  pipelines(first: 10) {
    edges {
      node {
        name
        modality
        dimension
        available
      }
    }
  }
}
`;

function credentials() {
  const key = keyField.value.trim();
  return key ? { authorization: `Bearer ${key}` } : {};
}

function render() {
  const socket = new URL("/graphql", window.location.href);
  socket.protocol = socket.protocol === "https:" ? "wss:" : "ws:";
  const fetcher = GraphiQL.createFetcher({
    url: "/graphql",
    headers: { ...OWN_PAGE, ...credentials() },
    subscriptionUrl: socket.href,
    wsConnectionParams: credentials(),
  });
  root.render(
    React.createElement(GraphiQL, {
      fetcher,
      plugins: [explorer],
      defaultQuery: WELCOME,
      defaultEditorToolsVisibility: "variables",
    }),
  );
}

async function send(method, body) {
  const response = await fetch("/v1/sessions", {
    method,
    headers: { ...OWN_PAGE, "Content-Type": "application/json" },
    body: body && JSON.stringify(body),
  });
  if (!response.ok) {
    const refusal = await response.json();
    throw new Error(refusal.error.message);
  }
}

async function act(action, done) {
  try {
    await action();
    status.textContent = done;
  } catch (error) {
    status.textContent = error.message;
  }
  render();
}

document.getElementById("log-in").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.target;
  const body = { email: form.email.value, password: form.password.value, device_name: "GraphiQL" };
  form.password.value = "";
  act(() => send("POST", body), `Logged in as ${body.email}`);
});

document.getElementById("log-out").addEventListener("click", () => {
  act(() => send("DELETE"), "Logged out");
});

keyField.addEventListener("change", render);

render();
