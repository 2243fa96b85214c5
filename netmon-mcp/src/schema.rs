//! JSON schemas as MCP clients and the models behind them understand them.
//!
//! schemars writes what JSON Schema allows; clients warn about or refuse some of it: types in lists, formats of their own
//! invention (`uint64`), references in what a tool takes. What is removed here says nothing that a client needs.

use schemars::{JsonSchema, generate::SchemaSettings};
use serde_json::{Map, Value};

type Object = Map<String, Value>;

/// The schema of what a tool takes. Without references, which some clients do not follow there.
pub(crate) fn of_input<T: JsonSchema>() -> Object {
    let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
    generate::<T>(settings)
}

/// The schema of what a tool answers: every client pays for it in every conversation, so it has names, types and choices,
/// and no more.
pub(crate) fn of_output<T: JsonSchema>() -> Object {
    Slim::of(generate::<T>(SchemaSettings::draft2020_12().for_serialize()), 2)
}

/// The same of an answer whose objects another tool's schema tells of.
pub(crate) fn of_outline<T: JsonSchema>() -> Object {
    Slim::of(generate::<T>(SchemaSettings::draft2020_12().for_serialize()), 0)
}

fn generate<T: JsonSchema>(settings: SchemaSettings) -> Object {
    let mut schema = settings.into_generator().into_root_schema_for::<T>().to_value();
    normalise(&mut schema);
    // The same bytes whatever features of serde_json another crate of the build asked for.
    schema.sort_all_objects();
    let Value::Object(mut schema) = schema else { return Object::new() };
    // The name and comment of a Rust type; the tool has its own.
    schema.remove("title");
    schema.remove("description");
    // The dialect that MCP has by default.
    schema.remove("$schema");
    // MCP wants an object with properties at the root, even where there are none.
    schema.entry("properties").or_insert_with(|| Value::Object(Object::new()));
    schema
}

fn normalise(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(normalise);
            without_null(object);
            without_invented_format(object);
            choices_as_enum(object);
            on_one_line(object);
        }
        Value::Array(values) => values.iter_mut().for_each(normalise),
        _ => {}
    }
}

/// What is not known is absent from our answers, and may be absent from arguments; so nothing needs to be `null`.
fn without_null(schema: &mut Object) {
    if schema.get("default") == Some(&Value::Null) {
        schema.remove("default");
    }
    if let Some(Value::Array(types)) = schema.get_mut("type") {
        types.retain(|kind| kind != "null");
        if let [kind] = &types[..] {
            let kind = kind.clone();
            schema.insert("type".to_owned(), kind);
        }
    }
    if let Some(Value::Array(choices)) = schema.get_mut("anyOf") {
        choices.retain(|choice| choice.get("type").is_none_or(|kind| kind != "null"));
        if let [Value::Object(choice)] = &mut choices[..] {
            let choice = std::mem::take(choice);
            schema.remove("anyOf");
            for (key, value) in choice {
                // The field's own description is the better one.
                schema.entry(key).or_insert(value);
            }
        }
    }
}

/// Keeps the formats that JSON Schema defines and netmon uses: times.
fn without_invented_format(schema: &mut Object) {
    if schema.get("format").is_some_and(|format| format.is_string() && format != "date-time") {
        schema.remove("format");
    }
}

/// Choices with a comment each (`oneOf` of constants) become a plain `enum`, which every client shows and checks.
fn choices_as_enum(schema: &mut Object) {
    let Some(Value::Array(choices)) = schema.get("oneOf") else { return };
    let mut values = Vec::new();
    for choice in choices {
        match (choice.get("const"), choice.get("enum")) {
            (Some(value), _) => values.push(value.clone()),
            (None, Some(Value::Array(several))) => values.extend(several.iter().cloned()),
            _ => return,
        }
    }
    schema.remove("oneOf");
    schema.insert("type".to_owned(), Value::from("string"));
    schema.insert("enum".to_owned(), Value::Array(values));
}

/// A comment is broken into lines for the width of the source.
fn on_one_line(schema: &mut Object) {
    if let Some(Value::String(text)) = schema.get_mut("description") {
        *text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    }
}

/// A schema that is as short as it can be and still says what there is.
struct Slim {
    /// Deeper objects are objects, of which no more is said.
    depth: usize,
    definitions: Object,
    /// Objects that are there more than once, and so are told of once.
    shared: Object,
}

impl Slim {
    /// What every answer has, and the instructions tell of.
    const EXPLAINED: &[&str] = &["Coverage", "OtherConnections", "OtherSummary", "Window"];
    /// What a client may count on.
    const ALWAYS: &[&str] = &["host", "window", "coverage", "command"];

    fn of(mut schema: Object, depth: usize) -> Object {
        let definitions = match schema.remove("$defs") {
            Some(Value::Object(definitions)) => definitions,
            _ => Object::new(),
        };
        let mut slim = Self { depth, definitions, shared: Object::new() };
        let mut schema = slim.object(&schema, 0);
        schema.insert("required".to_owned(), Value::from(Self::ALWAYS));
        let names = slim.shared.keys();
        let single: Vec<String> = names.filter(|name| slim.uses(&schema, name) == 1).cloned().collect();
        let mut kept = slim.shared;
        for name in single {
            let Some(definition) = kept.remove(&name) else { continue };
            inline(&mut schema, &name, &definition);
            inline(&mut kept, &name, &definition);
        }
        if !kept.is_empty() {
            schema.insert("$defs".to_owned(), Value::Object(kept));
        }
        schema
    }

    /// How often a shared definition is referred to.
    fn uses(&self, schema: &Object, name: &str) -> usize {
        let reference = Value::from(format!("#/$defs/{name}")).to_string();
        let count = |object: &Object| Value::Object(object.clone()).to_string().matches(&reference).count();
        count(schema) + count(&self.shared)
    }

    fn object(&mut self, schema: &Object, depth: usize) -> Object {
        let mut slim = Object::new();
        for (key, value) in schema {
            match (key.as_str(), value) {
                ("type" | "enum" | "deprecated", value) => {
                    slim.insert(key.clone(), value.clone());
                }
                ("properties", Value::Object(properties)) => {
                    let properties = properties
                        .iter()
                        .map(|(name, property)| (name.clone(), self.any(property, depth)))
                        .collect();
                    slim.insert(key.clone(), Value::Object(properties));
                }
                ("items" | "additionalProperties", Value::Object(_)) => {
                    slim.insert(key.clone(), self.any(value, depth));
                }
                ("anyOf" | "oneOf", Value::Array(choices)) => {
                    let choices = choices.iter().map(|choice| self.any(choice, depth)).collect();
                    slim.insert(key.clone(), Value::Array(choices));
                }
                _ => {}
            }
        }
        slim
    }

    fn any(&mut self, schema: &Value, depth: usize) -> Value {
        let Value::Object(schema) = schema else { return schema.clone() };
        let name = schema.get("$ref").and_then(Value::as_str).and_then(|path| path.rsplit('/').next());
        let Some(name) = name.map(str::to_owned) else { return Value::Object(self.object(schema, depth)) };
        let Some(Value::Object(definition)) = self.definitions.get(&name).cloned() else {
            return Value::Object(Object::new());
        };
        if definition.get("type").is_none_or(|kind| kind != "object") {
            let scalar = self.object(&definition, depth);
            // Long lists of names tell more elsewhere: in what a person reads.
            let few = scalar.get("enum").and_then(Value::as_array).is_none_or(|names| names.len() <= 4);
            return Value::Object(if few && depth < 2 { scalar } else { only_type(&scalar) });
        }
        if depth >= self.depth || Self::EXPLAINED.contains(&name.as_str()) {
            return Value::Object(only_type(&definition));
        }
        if !self.shared.contains_key(&name) {
            let slim = self.object(&definition, depth + 1);
            self.shared.insert(name.clone(), Value::Object(slim));
        }
        Value::Object(Object::from_iter([("$ref".to_owned(), format!("#/$defs/{name}").into())]))
    }
}

fn only_type(schema: &Object) -> Object {
    schema.iter().filter(|(key, _)| *key == "type").map(|(key, value)| (key.clone(), value.clone())).collect()
}

/// Puts a definition in the place of what refers to it.
fn inline(schema: &mut Object, name: &str, definition: &Value) {
    fn walk(value: &mut Value, reference: &str, definition: &Value) {
        match value {
            Value::Object(object) if object.get("$ref").is_some_and(|found| found == reference) => {
                *value = definition.clone();
            }
            Value::Object(object) => object.values_mut().for_each(|value| walk(value, reference, definition)),
            Value::Array(values) => values.iter_mut().for_each(|value| walk(value, reference, definition)),
            _ => {}
        }
    }
    let reference = format!("#/$defs/{name}");
    schema.values_mut().for_each(|value| walk(value, &reference, definition));
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a failed unwrap is a failed test")]

    use super::*;

    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    struct Everything {
        count: Option<u64>,
        small: u8,
        choice: Option<Choice>,
        /// When.
        at: Option<Nested>,
        #[schemars(default)]
        share: Option<f64>,
    }

    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    enum Choice {
        /// This.
        One,
        /// That.
        Two,
    }

    #[derive(schemars::JsonSchema)]
    #[expect(dead_code, reason = "only its schema is of interest")]
    struct Nested {
        seconds: f32,
    }

    #[test]
    fn nothing_is_null_invented_or_commented_by_choice() {
        for schema in [of_input::<Everything>(), of_output::<Everything>()] {
            let text = serde_json::to_string(&schema).unwrap();
            for refused in ["null", "uint", "float", "double", "oneOf", "anyOf", "const"] {
                assert!(!text.contains(refused), "{refused} in {text}");
            }
            assert!(text.contains(r#""enum":["One","Two"]"#), "{text}");
        }
    }

    #[test]
    fn a_tool_takes_nothing_by_reference() {
        let text = serde_json::to_string(&of_input::<Everything>()).unwrap();
        assert!(!text.contains("$ref") && !text.contains("$defs"), "{text}");
    }
}
