-- A play, letter by letter: a language model of characters that writes on by itself.
require 'rnn'
require 'optim'

local cmd = torch.CmdLine()
cmd:option('-text', '../fixtures/text/coriolanus.txt', 'what to learn')
cmd:option('-size', 128, 'of the vectors of characters and of the state')
cmd:option('-iterations', 400, 'of training')
cmd:option('-type', 'torch.DoubleTensor', 'of the parameters')
cmd:option('-save', '', 'write the trained network to this .t7 file')
cmd:option('-load', '', 'do not train: take the network from this .t7 file')
cmd:option('-length', 300, 'of the text that it writes')
cmd:option('-temperature', 0.7, 'lower is safer, higher is bolder')
cmd:option('-seed', 1, 'of the random numbers')
local options = cmd:parse(arg)

local STEPS, BATCH = 50, 32

-- the text as numbers, and the characters that they stand for, in the order of their first use
local function encode(text)
   local numbers, symbols = torch.LongTensor(#text), {}
   local known = {}
   for i = 1, #text do
      local symbol = text:sub(i, i)
      if not known[symbol] then
         table.insert(symbols, symbol)
         known[symbol] = #symbols
      end
      numbers[i] = known[symbol]
   end
   return numbers, table.concat(symbols)
end

local function network(symbols, size)
   local model = nn.Sequential()
   model:add(nn.LookupTable(symbols, size))       -- steps x batch -> steps x batch x size
   model:add(nn.SeqLSTM(size, size))
   model:add(nn.Sequencer(nn.Linear(size, symbols)))
   model:add(nn.Sequencer(nn.LogSoftMax()))
   model:remember('both')                         -- each window goes on where the last one ended
   return model
end

-- the tensor on the device of the network
local function on(model, tensor)
   return model:type() == 'torch.CudaTensor' and tensor:cuda() or tensor
end

-- characters x columns: each column a part of the text; and the same, one character later
local function columns(numbers, count)
   local height = math.floor((numbers:size(1) - 1) / count)
   local input = numbers:narrow(1, 1, height * count):view(count, height):t():contiguous()
   local target = numbers:narrow(1, 2, height * count):view(count, height):t():contiguous()
   return input, target
end

local function train(model, numbers, iterations, config)
   local criterion = nn.SequencerCriterion(nn.ClassNLLCriterion()):type(model:type())
   local input, target = columns(on(model, numbers), BATCH)
   local parameters, gradients = model:getParameters()
   local windows, mean = math.floor(input:size(1) / STEPS), nil
   model:training()
   for i = 1, iterations do
      local k = (i - 1) % windows
      if k == 0 then model:forget() end           -- back at the top of the columns
      local x, y = input:narrow(1, k * STEPS + 1, STEPS), target:narrow(1, k * STEPS + 1, STEPS)
      local function evaluate()
         gradients:zero()
         local output = model:forward(x)
         local loss = criterion:forward(output, y)
         model:backward(x, criterion:backward(output, y))
         gradients:clamp(-5, 5)
         return loss / STEPS, gradients
      end
      local _, loss = optim.adam(evaluate, parameters, config)
      mean = 0.95 * (mean or loss[1]) + 0.05 * loss[1]
      if i % math.ceil(iterations / 10) == 0 then
         print(string.format('iteration %4d   loss per character %.4f', i, mean))
      end
   end
end

local function sample(model, symbols, length, temperature)
   model:evaluate()
   model:forget()
   local number, text = symbols:find('\n', 1, true) or 1, {}
   for t = 1, length do
      local logProbabilities = model:forward(on(model, torch.LongTensor{{number}})):view(-1):double()
      number = torch.multinomial(nn.SoftMax():forward(logProbabilities:div(temperature)), 1)[1]
      text[t] = symbols:sub(number, number)
   end
   return table.concat(text)
end

torch.manualSeed(options.seed)
local checkpoint
if options.load ~= '' then
   checkpoint = torch.load(options.load)
else
   local file = io.open(options.text)
   local numbers, symbols = encode(file:read('*a'))
   checkpoint = {model = network(#symbols, options.size):type(options.type), symbols = symbols}
   train(checkpoint.model, numbers, options.iterations, {learningRate = 0.005})
end
if options.save ~= '' then
   checkpoint.model:clearState()
   torch.save(options.save, checkpoint)
end
print(sample(checkpoint.model, checkpoint.symbols, options.length, options.temperature))
