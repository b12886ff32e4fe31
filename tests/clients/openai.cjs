// A program for the OpenAI SDK in JavaScript, run by node. It prints what it got, as JSON.
const OpenAI = require("openai");

const user = (content) => [{ role: "user", content }];
const tool = { type: "function", function: { name: "get_weather", parameters: { type: "object" } } };

async function main() {
  const client = new OpenAI({ maxRetries: 0 });

  const chat = await client.chat.completions.create({ model: "alias", messages: user("Good morning") });

  const stream = [];
  for await (const chunk of await client.chat.completions.create({
    model: "alias",
    messages: user("one two three"),
    stream: true,
  })) {
    stream.push(chunk.choices[0].delta.content ?? "");
  }

  const tools = await client.chat.completions.create({
    model: "alias",
    messages: user("get_weather"),
    tools: [tool],
  });

  const error = await client.withOptions({ apiKey: "sk-wrong" }).models.list().then(
    () => null,
    (refusal) => [refusal.status, refusal.code],
  );

  console.log(
    JSON.stringify({
      chat: chat.choices[0].message.content,
      stream,
      tools: (tools.choices[0].message.tool_calls ?? []).map((call) => call.function.name),
      error,
    }),
  );
}

main();
